// Messages that tell the kernel how often to speak of an SA, byte by byte as linux/xfrm.h lays them out.
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventPaceMessages } from "../../drivers/tunnel/xfrm-pace.ts";

test("one message for each SA, with thresholds alone", () => {
  const messages = eventPaceMessages(
    [
      { destination: "198.18.0.9", spi: 0xc0ffee01 },
      { destination: "198.19.0.1", spi: 256 },
    ],
    { packets: 64, ticks: 5 },
  );
  const head = "500000001e0001010000000000000000";
  const thresholds = "08000b004000000008000c0005000000";
  const body = (address: string, spi: string) => `${address}${"00".repeat(12)}${spi}02003200${"00".repeat(24)}`;
  const one = (address: string, spi: string) => `${head}${body(address, spi)}${thresholds}`;
  assert.equal(messages.toString("hex"), one("c6120009", "c0ffee01") + one("c6130001", "00000100"));
});

test("an address that is not IPv4 is refused", () => {
  assert.throws(() => eventPaceMessages([{ destination: "fd00::1", spi: 256 }], { packets: 1, ticks: 1 }), {
    code: "INVALID_FIELD",
  });
});
