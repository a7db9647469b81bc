// Design note
//
// What the objects of a Kubernetes cluster mean, and what is to be done with them. Pure: values go
// in, values come out; the shell that reads and writes the objects is in Clusters and Control.
//
//   EndpointSlices ─▶ EndpointTable ─▶ EndpointChange          whom the gateway sends requests to
//   Pods, ReplicaSets ─▶ PodCondition, CreationFailure         whether a replica comes, or why not
//   ScaleDown: choose, drain, mark, write, forget              which replicas leave
//   WriterWatch                                                who else writes the same number
//   GatewayRoll                                                which gateways were heard
//   EndpointGaps                                               whom no gateway can reach
//   CapacityLedger                                             what nodes and quotas have left
//
// Limits are beside what they bound (`EndpointTable.endpointsMax`, `WriterWatch.holdMax`, ...).
// Not done here: talking to the API server, and deciding how many replicas there should be.
