import Foundation
import TestSupport
import Testing

@testable import Jobs

/// What Foundation's coders do is what ours must do.
@Suite struct JSONCodingTests {
    @Test func randomDocumentsComeBackAndReadLikeFoundationReadsThem() throws {
        var random = SeededGenerator(seed: 20_261_122)
        for _ in 0..<3000 {
            let value = Self.value(depth: 4, &random)
            let ours = try JSONCoding.encode(value)
            #expect(try JSONDecoder().decode(JSONValue.self, from: Data(ours)) == value)
            #expect(JSONCoding.document(ours) == value)
            // And as Foundation writes it, with the space that people write.
            let encoder = JSONEncoder()
            encoder.outputFormatting = .prettyPrinted
            #expect(JSONCoding.document(try encoder.encode(value)) == value)
        }
    }

    @Test func damagedDocumentsAreNeverReadOtherwiseThanByFoundation() throws {
        var random = SeededGenerator(seed: 5)
        for _ in 0..<6000 {
            var text = try JSONCoding.encode(Self.value(depth: 3, &random))
            for _ in 0..<Int.random(in: 1...3, using: &random) where !text.isEmpty {
                let place = Int.random(in: text.indices, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: text.remove(at: place)
                case 1: text.insert(Self.bytes.randomElement(using: &random) ?? 0, at: place)
                default: text[place] = Self.bytes.randomElement(using: &random) ?? 0
                }
            }
            // What is refused here is Foundation's to judge.
            guard let ours = JSONCoding.document(text) else { continue }
            let foundation = try? JSONDecoder().decode(JSONValue.self, from: Data(text))
            #expect(ours == foundation, "\(String(decoding: text, as: UTF8.self))")
        }
    }

    @Test(arguments: [
        "01", "-", "1.", ".5", "1e", "+1", "tru", "\"\\x\"", "\"\\ud800\"", "\"\u{1}\"", "{a:1}", "[", "\"", "", "1 2",
        "nul", "{\"a\"1}", "[1 2]", "'a'", "\"\\u12g4\"",
    ])
    func whatIsNoDocumentIsRefused(text: String) {
        #expect(JSONCoding.document(Array(text.utf8)) == nil)
        #expect(throws: DecodingError.self) { try JSONCoding.decode(JSONValue.self, from: Array(text.utf8)) }
    }

    @Test(arguments: [
        "[1,]", "{\"a\":1,}", "1e300", "\u{feff}1", "{\"a\":1,\"a\":2}",
        String(repeating: "[", count: 200) + String(repeating: "]", count: 200),
    ])
    func whatFoundationHasRulesOfItsOwnForIsLeftToIt(text: String) throws {
        #expect(JSONCoding.document(Array(text.utf8)) == nil)
        let value = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
        #expect(try JSONCoding.decode(JSONValue.self, from: Array(text.utf8)) == value)
    }

    @Test func bytesThatAreNoTextAreRefused() {
        #expect(JSONCoding.document([0x22, 0xff, 0x22]) == nil)
        #expect(JSONCoding.document([0x22, 0xc3, 0x22]) == nil)
    }

    @Test func aThousandLevelsAreRefusedWithAnErrorAndNotWithACrash() {
        let text = Array(String(repeating: "[", count: 100_000).utf8)
        #expect(throws: (any Error).self) { try JSONCoding.decode(JSONValue.self, from: text) }
    }

    @Test(
        arguments: [
            (#""\u00e9\ud83d\ude00\/\b\f\n\r\t""#, JSONValue.string("\u{e9}\u{1f600}/\u{8}\u{c}\n\r\t")), ("-0", 0), ("1.0", 1),
            ("1e3", 1000),
            ("-12.5e-1", -1.25), ("9223372036854775807", 9_223_372_036_854_775_807), (" [ ] ", JSONValue.array([])),
            ("{}", JSONValue.object([:])),
        ] as [(String, JSONValue)])
    func numbersAndEscapesMeanWhatTheyMeanToFoundation(text: String, value: JSONValue) throws {
        #expect(JSONCoding.document(Array(text.utf8)) == value)
        #expect(try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8)) == value)
    }

    /// Every kind of container that `Codable` knows, and dates.
    private struct Everything: Codable, Equatable {
        enum Choice: Codable, Equatable {
            case none
            case one(Int, label: String)
        }
        struct Inner: Codable, Hashable {
            var id: String
            var at: Date
        }
        var choice: Choice
        var choices: [Choice]
        var inner: Inner?
        var missing: Int?
        var table: [String: Inner]
        var lists: [[Int]]
        var optionals: [Int?]
        var priority: Priority
        var value: JSONValue
        var members: [String: JSONValue]
        var ratio: Double
        var whole: Double
        var large: Int64
        var small: UInt8
        var isSet: Bool
        var numbers: Set<Int>
    }

    private static let everything = Everything(
        choice: .one(3, label: "a\"\\\u{7}/ü"), choices: [.none, .one(-1, label: "")],
        inner: .init(id: "x", at: Date(timeIntervalSince1970: 1.5)),
        missing: nil, table: ["k": .init(id: "y", at: Date(timeIntervalSince1970: 1_700_000_000.123_456))], lists: [[], [1, 2]],
        optionals: [1, nil, 3], priority: .high, value: ["a": [1, 2.5, .null, "t"]], members: ["b": true], ratio: 0.1, whole: 4,
        large: .min, small: 255, isSet: true, numbers: [7])

    @Test func whatIsWrittenHereFoundationReadsAndTheOtherWayRound() throws {
        let ours = try JSONCoding.encode(Self.everything, sortsKeys: true)
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .secondsSince1970
        #expect(try decoder.decode(Everything.self, from: Data(ours)) == Self.everything)
        #expect(try JSONCoding.decode(Everything.self, from: ours) == Self.everything)
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .secondsSince1970
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let theirs = try encoder.encode(Self.everything)
        #expect(String(decoding: ours, as: UTF8.self) == String(decoding: theirs, as: UTF8.self))
        #expect(try JSONCoding.decode(Everything.self, from: theirs) == Self.everything)
    }

    @Test func errorsAreFoundations() {
        let error = #expect(throws: DecodingError.self) { try JSONCoding.decode(Everything.self, from: Array(#"{"choice":3}"#.utf8)) }
        guard case .typeMismatch(_, let context) = error else {
            Issue.record("\(error.map { "\($0)" } ?? "no error")")
            return
        }
        #expect(context.codingPath.map(\.stringValue) == ["choice"])
    }

    private static let bytes = Array(#"{}[]",:\0123456789.eE+-truefalsn u"#.utf8) + [0, 0x1f, 0x80, 0xc3, 0xff]
    private static let texts = ["", "a", "ä€😀", "\"\\/\u{8}\n\u{1f}\u{7f}\u{2028}", "true", String(repeating: "x", count: 40)]

    private static func value(depth: Int, _ random: inout SeededGenerator) -> JSONValue {
        switch Int.random(in: 0..<(depth == 0 ? 6 : 9), using: &random) {
        case 0: return .null
        case 1: return .bool(.random(using: &random))
        case 2: return .integer(.random(in: -1000...1000, using: &random))
        case 3: return .integer(.random(in: .min ... .max, using: &random))
        // Never whole: those read as integers.
        case 4: return .number(Double(Int.random(in: -1_000_000...1_000_000, using: &random)) + 0.123)
        case 5: return .string(texts.randomElement(using: &random) ?? "")
        case 6: return .array((0..<Int.random(in: 0..<5, using: &random)).map { _ in value(depth: depth - 1, &random) })
        default:
            let members = (0..<Int.random(in: 0..<6, using: &random)).map { ("\(texts[$0])\($0)", value(depth: depth - 1, &random)) }
            return .object(Dictionary(uniqueKeysWithValues: members))
        }
    }
}
