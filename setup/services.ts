/**
 * The three services Foreshift stands on, as children of this process or, where an environment variable names one, somebody
 * else's. Each keeps its data in `home` and comes back on the same address with the same data, however it ended.
 */
export { type OpenBaoService, startOpenBao } from "./openbao.ts";
export { type PostgresService, startPostgres } from "./postgres.ts";
export type { Service, ServiceExit, ServiceOptions } from "./service.ts";
export { startTemporal, type TemporalOptions, type TemporalService } from "./temporal.ts";
