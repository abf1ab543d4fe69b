/**
 * All workflows; what the worker bundles. Function names are wire names: never renamed.
 */
export { addEndpoints } from "./add-endpoints.ts";
export { drainAndReplace } from "./drain-and-replace.ts";
export { drainEndpoint } from "./drain-endpoint.ts";
export { endpointLost } from "./endpoint-lost.ts";
export { predict } from "./predict.ts";
export { relieveEndpoint } from "./relieve-endpoint.ts";
export { replenishGhosts } from "./replenish-ghosts.ts";
export { retireIdentity } from "./retire-identity.ts";
export { retrainModels } from "./retrain-models.ts";
export { revokeCertificate } from "./revoke-certificate.ts";
export { revokeClients } from "./revoke-clients.ts";
export { revokeEndpoint } from "./revoke-endpoint.ts";
export { rollImage } from "./roll-image.ts";
export { rotateAll } from "./rotate-all.ts";
export { rotateKeys } from "./rotate-keys.ts";
export { swarm } from "./swarm.ts";
