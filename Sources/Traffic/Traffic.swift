// Traffic: everything that is decided about a request, as values without I/O.
//
// Purpose. The proxy asks these types where a request goes, whether it waits, whether it is tried
// again and what its answer measured; the simulator asks the same questions of the same code. Each
// decision takes its facts and, where time matters, `now`; it changes the value and returns what to
// do. Nothing here opens a socket, reads a clock or draws a random number of its own.
//
//     RequestRouting, ModelTable, HostPathTable, JSONKeyScanner    which model
//     WeightedPicker, StickyHash, PercentSampler                   which variant, and mirroring
//     LeastLoaded, RoundRobin, ConsistentHash, PrefixAffinity      which endpoint
//     AdmissionQueue                                               who waits
//     RetryBudget, RetryPolicy, OutlierDetector                    what happens after a failure
//     ResponseObserver                                             what the answer tells
//
// Threads. All are plain values of one owner. Two are meant to be shared by workers, by an owner
// that holds a mutex: `AdmissionQueue` (there is one line per model) and, if ejection is to be
// common to the workers, `OutlierDetector`. `ModelTable` and `HostPathTable` never change after
// they were built and may be read from everywhere.
//
// Cost. After warming up no decision allocates. Names are compared as bytes: no `String` is made.
//
// Limits stand beside the types as `…Max` constants or initialiser arguments. What is not here:
// priorities and fairness between tenants (the queue has one line; classes become several lines
// inside it), rate limits, and anything that looks further back than the last ten seconds.
