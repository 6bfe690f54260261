//! A Kubernetes API server for tests: real HTTP, real watches, and every fault on demand.
