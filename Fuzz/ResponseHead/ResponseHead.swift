import FuzzSupport
import TestSupport

@main
enum ResponseHeadFuzzer {
    static func main() { runFuzzer(ParserInvariants.responseHead) }
}
