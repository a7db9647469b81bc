import FuzzSupport
import TestSupport

@main
enum RequestHeadFuzzer {
    static func main() { runFuzzer(ParserInvariants.requestHead) }
}
