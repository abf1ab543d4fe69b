/** `foreshift image`: build and verify what virtual machines boot from. */
import type { Command } from "commander";
import { verifyImage } from "../lab/verify-image.ts";
import { buildImage } from "../setup/image/build.ts";
import { setUpMachines } from "../setup/set-up.ts";
import { print, wantsJson } from "./output.ts";

const BYTES_PER_MB = 1e6;

export function register(program: Command): void {
  const image = program.command("image").description("build and verify the image that virtual machines boot from");
  image
    .command("build")
    .description("build the image; where it is built already, say so")
    .option("--no-cache", "build it anew")
    .action(async ({ cache }: { cache: boolean }, command: Command) => {
      const { image, seconds, cached } = await buildImage({ noCache: !cache, onProgress: progress(command) });
      const { digest, bytes, folder } = image;
      print(command, { digest, bytes, seconds, cached, folder }, () => {
        const how = cached ? "was built before" : `built in ${seconds} s`;
        return `${digest}\n  ${Math.round(bytes / BYTES_PER_MB)} MB, ${how}\n  ${folder} (bill-of-materials.json says what is in it)`;
      });
    });
  image
    .command("verify")
    .description("boot the image and let it test itself")
    .action(async (_: object, command: Command) => {
      await setUpMachines(progress(command));
      const { image } = await buildImage({ onProgress: progress(command) });
      print(command, await verifyImage(image), ({ digest, accelerator, bootSeconds, checks }) => {
        const lines = checks.map(({ what }) => `  ok  ${what}`);
        return [`${digest} booted in ${bootSeconds} s (${accelerator})`, ...lines].join("\n");
      });
    });
}

function progress(command: Command): (text: string) => void {
  return wantsJson(command) ? () => undefined : (text) => console.error(text);
}
