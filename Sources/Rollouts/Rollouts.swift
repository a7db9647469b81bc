// Rollouts: how a model gets from one variant to the next, as values without I/O.
//
// Purpose. `RolloutMachine` walks a plan's steps: it asks for replicas, waits until they are ready,
// moves weights, waits until every gateway has acknowledged them, watches, and goes on, back, or
// waits for a person. `Evidence` compares the canary with the stable variant over the same time.
// The shell tells the machine what it sees and does what the actions say; the simulator runs the
// same code in a made-up world.
//
//     RolloutPlan, RolloutSpec         what is wanted
//     RolloutEvent, RolloutCommand     what comes in
//     RolloutMachine, RolloutStatus    where it stands; the status alone is enough to go on
//     RolloutAction                    what the shell does
//     Evidence                         e-values, confidence sequences, guardrails, verdicts
//
// States.  stable → progressing ⇄ paused → promoting → stable
//                        └───────────┴────────┴→ rollingBack → rolledBack | stable | progressing
//
// Order is safety. No weight to an arm without a ready replica, as long as the other has one; more
// weight only with the replicas for it; less only as far as the other arm can carry it, unless the
// canary fails hard; nothing shrinks before every gateway has acknowledged that it has no weight,
// its streams have ended or their deadline has passed, and the delay is over. Promotion swaps
// roles: nothing restarts.
//
// Statistics. The chance that a canary that is no worse than allowed is ever rolled back by the
// comparisons is at most α, over all looks and metrics (e-processes, Ville's inequality). No data
// is neither good nor bad: it is inconclusive, and the report says what is missing.
//
// Threads. Plain values of one owner, the control thread.
//
// Limits stand beside the types as `…Max`. Memory does not grow with time or requests. What is not
// here: who takes which weight to which gateway, how replicas start and drain, how numbers are
// measured, and what a webhook looks like on the wire.
