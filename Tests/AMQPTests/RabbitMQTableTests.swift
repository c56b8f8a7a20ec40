import TestSupport
import Testing

@testable import AMQP

@Suite struct RabbitMQTableTests {
    @Test(
        arguments: [
            .bool(true), .bool(false), .int8(.min), .int16(.min), .int32(.min), .int64(.min), .uint8(.max), .uint16(.max), .uint32(.max),
            .float(-0.5), .double(.pi), .decimal(scale: 255, value: .max), .string(""), .string("Grüße \u{1F600}"), .bytes([]),
            .bytes([0, 1, 255]), .timestamp(.max), .array([]), .array([1, ["x": .void], [[]]]), .table([:]), .table(["a": ["b": ["c": 1]]]),
            .void,
        ] as [AMQPValue]
    )
    func `every field type comes back as it was`(_ value: AMQPValue) throws {
        let table: AMQPTable = ["value": value]
        let bytes = try #require(RabbitMQTableCodec.encode(table))
        #expect(RabbitMQTableCodec.decode(bytes) == table)
    }

    @Test func `an unsigned 64-bit number travels signed`() throws {
        let bytes = try #require(RabbitMQTableCodec.encode(["n": .uint64(7)]))
        #expect(RabbitMQTableCodec.decode(bytes) == ["n": .int64(7)])
        #expect((["n": .uint64(.max)] as AMQPTable).problem() != nil)
    }

    @Test(arguments: 1...200 as ClosedRange<UInt64>)
    func `random tables come back as they were`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let table = randomTable(depth: 0, &random)
        #expect(table.problem() == nil)
        let bytes = try #require(RabbitMQTableCodec.encode(table))
        #expect(RabbitMQTableCodec.decode(bytes) == table)
    }

    @Test func `a text field that is not UTF-8 is read as bytes`() {
        let bytes: [UInt8] = [0, 0, 0, 10, 1, UInt8(ascii: "k"), UInt8(ascii: "S"), 0, 0, 0, 3, 0xff, 0xfe, 0xfd]
        #expect(RabbitMQTableCodec.decode(bytes) == ["k": .bytes([0xff, 0xfe, 0xfd])])
    }

    @Test func `an empty table as deep as it gets is refused both ways, too`() throws {
        let table: AMQPTable = ["x": (0..<maximumTableDepth).reduce(AMQPValue.table([:])) { value, _ in .table(["x": value]) }]
        #expect(table.problem() != nil)
        let least: AMQPTable = ["x": (0..<maximumTableDepth - 1).reduce(AMQPValue.table([:])) { value, _ in .array([value]) }]
        #expect(least.problem() != nil)
        #expect(RabbitMQTableCodec.decode(try #require(RabbitMQTableCodec.encode(least))) == nil)
    }

    @Test func `nesting is limited both ways`() throws {
        func nested(_ levels: Int, in wrap: (AMQPValue) -> AMQPValue) -> AMQPTable {
            ["x": (0..<levels).reduce(AMQPValue.void) { value, _ in wrap(value) }]
        }
        for wrap in [{ .table(["x": $0]) }, { .array([$0]) }] as [(AMQPValue) -> AMQPValue] {
            let allowed = nested(maximumTableDepth - 1, in: wrap)
            #expect(allowed.problem() == nil)
            #expect(RabbitMQTableCodec.decode(try #require(RabbitMQTableCodec.encode(allowed))) == allowed)
            let tooDeep = nested(maximumTableDepth, in: wrap)
            #expect(tooDeep.problem() != nil)
            #expect(RabbitMQTableCodec.decode(try #require(RabbitMQTableCodec.encode(tooDeep))) == nil)
        }
    }

    @Test func `the deepest table that fits into a frame does not exhaust a connection's stack`() async {
        // key "k", then arrays in arrays: 5 bytes a level.
        let levels = 26_000
        var bytes: [UInt8] = [1, UInt8(ascii: "k")]
        for level in 0..<levels {
            bytes.append(UInt8(ascii: "A"))
            let length = UInt32((levels - 1 - level) * 5)
            bytes += (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) }
        }
        bytes = (0..<4).map { UInt8(truncatingIfNeeded: bytes.count >> (24 - 8 * $0)) } + bytes
        let decoded = await withCheckedContinuation { continuation in
            let started = ConnectionThread.start(name: "deep") { [bytes] in
                continuation.resume(returning: RabbitMQTableCodec.decode(bytes))
            }
            #expect(started)
        }
        #expect(decoded == nil)
    }

    @Test(arguments: 1...500 as ClosedRange<UInt64>)
    func `damaged bytes are refused or read, and never crash`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var bytes = try #require(RabbitMQTableCodec.encode(randomTable(depth: 0, &random)))
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            bytes[Int.random(in: bytes.indices, using: &random)] = .random(in: .min ... .max, using: &random)
        }
        if Bool.random(using: &random) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random)) }
        _ = RabbitMQTableCodec.decode(bytes)
    }

    private func randomTable(depth: Int, _ random: inout SeededGenerator) -> AMQPTable {
        var table: AMQPTable = [:]
        for index in 0..<Int.random(in: 0...5, using: &random) {
            table["key\(index)\(UInt16.random(in: .min ... .max, using: &random))"] = randomValue(depth: depth, &random)
        }
        return table
    }

    private func randomValue(depth: Int, _ random: inout SeededGenerator) -> AMQPValue {
        switch Int.random(in: 0..<(depth < 4 ? 17 : 15), using: &random) {
        case 0: .bool(.random(using: &random))
        case 1: .int8(.random(in: .min ... .max, using: &random))
        case 2: .int16(.random(in: .min ... .max, using: &random))
        case 3: .int32(.random(in: .min ... .max, using: &random))
        case 4: .int64(.random(in: .min ... .max, using: &random))
        case 5: .uint8(.random(in: .min ... .max, using: &random))
        case 6: .uint16(.random(in: .min ... .max, using: &random))
        case 7: .uint32(.random(in: .min ... .max, using: &random))
        case 8: .float(.random(in: -1e30...1e30, using: &random))
        case 9: .double(.random(in: -1e300...1e300, using: &random))
        case 10: .decimal(scale: .random(in: .min ... .max, using: &random), value: .random(in: .min ... .max, using: &random))
        case 11: .string(String(repeating: "ü", count: Int.random(in: 0...200, using: &random)))
        case 12: .bytes((0..<Int.random(in: 0...300, using: &random)).map { _ in .random(in: .min ... .max, using: &random) })
        case 13: .timestamp(.random(in: .min ... .max, using: &random))
        case 14: .void
        case 15: .array((0..<Int.random(in: 0...4, using: &random)).map { _ in randomValue(depth: depth + 1, &random) })
        default: .table(randomTable(depth: depth + 1, &random))
        }
    }
}
