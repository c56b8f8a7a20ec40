import Foundation
import TestSupport
import Testing

@testable import AMQP

/// Tables as bytes that nobody meant to send. `DCM_FUZZ_CASES` sets how many, `DCM_SEED` the first one's seed.
@Suite struct RabbitMQTableFuzzTests {
    private static let kinds = Array("tbBsuIilLfdDSxTAFV".utf8)

    @Test(
        arguments: [
            ("empty input", []),
            ("a length that is cut", [0, 0, 0]),
            ("a length beyond the end", [0, 0, 0, 9, 1, 0x6b, 0x74, 1]),
            ("a length that no buffer has", [0xff, 0xff, 0xff, 0xff]),
            ("a name beyond the end", [0, 0, 0, 2, 9, 0x6b]),
            ("a name without a value", [0, 0, 0, 2, 1, 0x6b]),
            ("a value that is cut", [0, 0, 0, 5, 1, 0x6b, 0x49, 0, 0]),
            ("an unknown type", [0, 0, 0, 4, 1, 0x6b, 0x3f, 0]),
            ("a text beyond the end", [0, 0, 0, 8, 1, 0x6b, 0x53, 0, 0, 0, 2, 0x61]),
            ("a text of 4 GiB", [0, 0, 0, 8, 1, 0x6b, 0x53, 0xff, 0xff, 0xff, 0xff, 0x61]),
            ("an array beyond the end", [0, 0, 0, 8, 1, 0x6b, 0x41, 0, 0, 0, 9, 0x56]),
            ("an array whose last value is cut", [0, 0, 0, 9, 1, 0x6b, 0x41, 0, 0, 0, 2, 0x49, 0]),
            ("a table beyond the end", [0, 0, 0, 7, 1, 0x6b, 0x46, 0, 0, 0, 4]),
        ] as [(String, [UInt8])]
    )
    func `what is malformed is refused`(_ what: String, _ bytes: [UInt8]) {
        #expect(RabbitMQTableCodec.decode(bytes) == nil, "\(what)")
    }

    @Test func `a table cut anywhere is refused`() throws {
        let table: AMQPTable = [
            "bool": true, "int8": .int8(1), "int16": .int16(2), "int32": .int32(3), "int64": 4, "uint8": .uint8(5), "uint16": .uint16(6),
            "uint32": .uint32(7), "float": .float(8), "double": 9, "decimal": .decimal(scale: 1, value: 10), "string": "eleven",
            "bytes": .bytes([12]), "timestamp": .timestamp(13), "array": [14, ["x": "15"]], "table": ["y": [.void]], "void": .void,
        ]
        let bytes = try #require(RabbitMQTableCodec.encode(table))
        #expect(RabbitMQTableCodec.decode(bytes) == table)
        for count in bytes.indices {
            #expect(RabbitMQTableCodec.decode(Array(bytes[..<count])) == nil, "cut after \(count) bytes")
        }
    }

    @Test func `what is accepted can be sent again, and comes back the same`() throws {
        let environment = ProcessInfo.processInfo.environment
        let first = environment["DCM_SEED"].flatMap(UInt64.init) ?? .random(in: 1...1_000_000_000)
        let count = UInt64(environment["DCM_FUZZ_CASES"].flatMap(Int.init) ?? 4000)
        var accepted = 0
        for seed in first..<first + count {
            var random = SeededGenerator(seed: seed)
            var bytes = Self.table(depth: 0, &random)
            for _ in 0..<Int.random(in: 0...2, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            }
            guard let read = RabbitMQTableCodec.decode(bytes), read.problem() == nil else { continue }
            accepted += 1
            // The first trip may change what has no place on the way back (an unsigned 64-bit number); from then on nothing changes.
            let sent = try #require(trip(read), "seed \(seed)")
            let again = try #require(trip(sent), "seed \(seed)")
            #expect(Self.text(.table(sent)) == Self.text(.table(again)), "seed \(seed)")
        }
        #expect(accepted > Int(count) / 10, "too few of them mean anything, from seed \(first)")
    }

    private func trip(_ table: AMQPTable) -> AMQPTable? {
        RabbitMQTableCodec.encode(table).flatMap { RabbitMQTableCodec.decode($0) }
    }

    // MARK: Bytes

    /// A table with its length in front.
    private static func table(depth: Int, _ random: inout SeededGenerator) -> [UInt8] {
        var inside: [UInt8] = []
        for _ in 0..<Int.random(in: 0...4, using: &random) {
            let isPlain = Int.random(in: 0..<20, using: &random) > 0
            let name = isPlain ? [0x6b, .random(in: 48...57, using: &random)] : noise(.random(in: 0...140, using: &random), &random)
            inside += [UInt8(name.count)] + name + field(depth: depth, &random)
        }
        return length(inside.count) + inside
    }

    private static func field(depth: Int, _ random: inout SeededGenerator) -> [UInt8] {
        let kind = kinds.randomElement(using: &random)!
        switch kind {
        case UInt8(ascii: "S"), UInt8(ascii: "x"):
            let text = noise(Int.random(in: 0...30, using: &random), &random)
            return [kind] + length(text.count) + text
        case UInt8(ascii: "F"): return [kind] + (depth < 6 ? table(depth: depth + 1, &random) : length(0))
        case UInt8(ascii: "A"):
            let values = (0..<(depth < 6 ? Int.random(in: 0...3, using: &random) : 0)).flatMap { _ in field(depth: depth + 1, &random) }
            return [kind] + length(values.count) + values
        case UInt8(ascii: "V"): return [kind]
        case UInt8(ascii: "t"), UInt8(ascii: "b"), UInt8(ascii: "B"): return [kind] + noise(1, &random)
        case UInt8(ascii: "s"), UInt8(ascii: "u"): return [kind] + noise(2, &random)
        case UInt8(ascii: "I"), UInt8(ascii: "i"), UInt8(ascii: "f"): return [kind] + noise(4, &random)
        case UInt8(ascii: "D"): return [kind] + noise(5, &random)
        default: return [kind] + noise(8, &random)
        }
    }

    private static func length(_ count: Int) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) }
    }

    private static func noise(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
        (0..<count).map { _ in .random(in: .min ... .max, using: &random) }
    }

    /// In one order, and with numbers that are not numbers equal to themselves.
    private static func text(_ value: AMQPValue) -> String {
        switch value {
        case .table(let table): "{" + table.sorted { $0.key < $1.key }.map { "\($0.key):\(text($0.value))" }.joined(separator: ",") + "}"
        case .array(let values): "[" + values.map(text).joined(separator: ",") + "]"
        default: "\(value)"
        }
    }
}
