import Core
import HTTPService
import Testing

@Suite struct JSONValueTests {
    // MARK: JSON

    @Test func readsAndWritesDocuments() throws {
        let text = #"{"a":[1,-2.5,true,null,"x\n"],"é":{},"n":9007199254740993}"#
        let value = try JSONValue(parsing: text)
        #expect(value.text == text)
        #expect(value["a"].elements.count == 5 && value["n"].integer == 9_007_199_254_740_993)
        #expect(value["none"].isNull && value[path: ["a", "b"]].isNull)
        #expect(try JSONValue(parsing: #"{"\u0061":1}"#)["a"].integer == 1)
    }

    @Test func comparesWhateverTheOrder() throws {
        #expect(
            try JSONValue(parsing: #"{"a":1,"b":[2]}"#) == JSONValue(parsing: #"{"b":[2.0],"a":1}"#)
        )
        #expect(try JSONValue(parsing: #"{"a":1}"#) != JSONValue(parsing: #"{"a":1,"b":null}"#))
        #expect(try JSONValue(parsing: "[1,2]") != JSONValue(parsing: "[2,1]"))
    }

    @Test func boundsWhatADocumentMayHold() throws {
        for (text, isTaken) in [("[0,[],{}]", true), ("[0,[],{},0]", false), ("[[[[0]]]]", false)] {
            var reader = JSONReader(valuesMax: 4)
            let bytes = Array(text.utf8)
            let value = try? reader.document(bytes.span.bytes, keeping: .everything)
            #expect((value != nil) == isTaken)
        }
        let deep = String(repeating: "[", count: 65) + String(repeating: "]", count: 65)
        #expect(throws: JSONError.self) { try JSONValue(parsing: deep) }
    }

    /// RFC 7396, appendix A.
    @Test(arguments: [
        (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
        (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
        (#"{"a":"b"}"#, #"{"a":null}"#, "{}"),
        (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
        (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
        (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#),
        (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#),
        (#"{"a":"foo"}"#, "null", "null"),
        (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#),
        ("[1,2]", #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
        ("{}", #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
    ])
    func mergesPatches(target: String, patch: String, result: String) throws {
        let merged = try JSONValue(parsing: target).merged(with: JSONValue(parsing: patch))
        #expect(merged == (try JSONValue(parsing: result)), "\(merged.text)")
    }
}
