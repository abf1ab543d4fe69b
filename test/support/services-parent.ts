/** Starts the services as a lab does, says their process ids, and stays until it is killed. */
import { startOpenBao, startPostgres, startTemporal } from "../../setup/services.ts";

const [home = "", run = ""] = process.argv.slice(2);
const services = await Promise.all([startOpenBao, startPostgres, startTemporal].map((start) => start({ home, run })));
console.log(JSON.stringify(services.map(({ pid }) => pid)));
