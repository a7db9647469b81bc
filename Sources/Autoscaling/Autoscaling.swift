// Autoscaling: how many replicas each variant of a model has, and why. Pure.
//
// Purpose. Once per tick the control loop (or the simulator, with the same code) hands over what was
// measured and gets a `ScalingDecision`: for each variant a number of replicas, all recommendations
// with their reasons, the constraints that bit, and the outcome, as numbers and in words.
//
//     VariantObservation                  what was measured since the tick before; unknown is nil
//     ModelAutoscaler                     a value per model: observe, then decide
//     ScalingDecision, DecisionLog        what came of it, and the last of them
//     BudgetAllocator                     who gets what when models share a budget
//     VictimChoice                        which replicas go, and which draining ones come back
