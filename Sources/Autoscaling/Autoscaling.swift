// Autoscaling: how many replicas each variant of a model has, and why. Pure.
//
// Purpose. Once per tick the control loop (or the simulator, with the same code) hands over what
// was measured and gets a `ScalingDecision`: for each variant a number of replicas, all
// recommendations with their reasons, the constraints that bit, and the outcome, as numbers and in
// words.
//
//     VariantObservation                  what was measured since the tick before; unknown is nil
//     ModelAutoscaler                     a value per model: observe, then decide
//     ScalingDecision, DecisionLog        what came of it, and the last of them
//     BudgetAllocator                     who gets what when models share a budget
//     VictimChoice                        which replicas go, and which draining ones come back
//
// Inside. `Demand` keeps the load and forecasts it (`Forecaster`, `Seasonal`); `Capability` learns
// what a replica does at which load (`LoadCurve`); `Staffing` plays forecast errors through so many
// replicas and says how many hold the objective; `Rehearsal` lets plans with more and less room
// play along and takes the cheapest that would have held it; `Mix` chooses among interchangeable
// variants. The extensions of `VariantState` ask the targets, then go through the constraints in
// order.
//
// Time. Every call takes `now`; wall-clock time only schedules look at. Nothing is read or drawn
// here.
//
// Limits. Memory is constant for each variant, about 50 KB once it has had traffic: rings of fixed
// length, curves of fixed size, at most `ScalingPolicy.targetsMax` targets,
// `ModelSetup.variantsMax` variants and `DecisionLog.defaultCapacity` kept decisions. Loops are
// bounded by these.
//
// What is not here: asking the sources, acting on a decision, and keeping what was learned over a
// restart.
