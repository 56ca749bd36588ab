export { Client } from "./client.js"
export { KillfeedError, ConnectionError, ProblemError, ReplacedError } from "./errors.js"
