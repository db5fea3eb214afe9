// Package manifest finds the configurations of nats-server in Kubernetes manifests:
// in ConfigMaps and Secrets, as containers see them through their mounts, with
// their flags and variables. It reads texts only, and asks no cluster.
package manifest
