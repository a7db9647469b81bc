import FuzzSupport
import TestSupport

@main
enum ChunkedBodyFuzzer {
    static func main() { runFuzzer(ParserInvariants.chunkedBody) }
}
