import Core

// Design note
//
// The client of a cluster's API server: typed calls, watches that keep a copy of what they are
// about, leases that choose a leader, events for people.
//
//   ClusterAccess ◂── kubeconfig, service account          where the server is, and who we are
//   KubernetesClient ──APICall──▸ ActiveCall ──▸ CurlClient  one call: limit, credential, tries
//   Informer ──has──▸ Reflector (decides), ObjectStore (keeps)   ──list, watch──▸ KubernetesClient
//   LeaderElector ──has──▸ LeaderElection (decides)              ──get, put─────▸ KubernetesClient
//   EventRecorder ──has──▸ EventSeries (decides)                 ──post, patch──▸ KubernetesClient
//
// Everything belongs to one event loop's thread; nothing waits. What decides is a value that is
// told the time and random numbers, and tested without a socket.
//
// What is retried: where the server says how long to wait (429 and 5xx with `Retry-After`), a read
// whose connection broke (twice), and once after 401, with a credential had anew. Writes are not
// repeated otherwise: callers read again and decide again. (libcurl repeats what meets a kept
// connection that the server has closed; versions and names make that harmless.) TLS is always
// verified, unless a kubeconfig says in so many words that it must not be.
//
// Versions of objects are compared for equality only, unless `isAtLeast` is asked for. Objects are
// trees of JSON, cut down by a `JSONProjection` while they are read, or values made of that.
//
// Limits: `RequestLimits`, `ClientOptions`, `APICall`, `ReflectorOptions`, `WriteTracker`,
// `EventOptions`, `JSONValue.valuesMax`. Not done: protobuf, discovery, OpenAPI, watching one
// object by hand.
