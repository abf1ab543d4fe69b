/** A test's Vault, with the token of its administrator. */
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import type { OpenBaoService } from "../../setup/services.ts";

export async function withVault<T>(bao: OpenBaoService, work: (vault: Vault) => Promise<T>): Promise<T> {
  const vault = openVault({ address: bao.address, auth: { method: "token-file", tokenFile: bao.tokenFile } });
  try {
    return await work(vault);
  } finally {
    await vault.close();
  }
}
