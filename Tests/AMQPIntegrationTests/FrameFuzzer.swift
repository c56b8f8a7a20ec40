import TestSupport

/// Builds AMQP frames by hand, right and wrong ones.
struct FrameWriter {
    var bytes: [UInt8] = []

    mutating func octet(_ value: UInt8) { bytes.append(value) }
    mutating func short(_ value: UInt16) { number(UInt64(value), 2) }
    mutating func long(_ value: UInt32) { number(UInt64(value), 4) }
    mutating func longLong(_ value: UInt64) { number(value, 8) }

    mutating func name(_ text: String) {
        bytes.append(UInt8(truncatingIfNeeded: text.utf8.count))
        bytes += text.utf8.prefix(255)
    }

    mutating func longString(_ text: [UInt8]) {
        long(UInt32(text.count))
        bytes += text
    }

    private mutating func number(_ value: UInt64, _ size: Int) {
        for index in (0..<size).reversed() { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
    }

    static func frame(_ type: UInt8, _ channel: UInt16, _ payload: [UInt8]) -> [UInt8] {
        var writer = FrameWriter()
        writer.octet(type)
        writer.short(channel)
        writer.longString(payload)
        writer.octet(0xce)
        return writer.bytes
    }

    static func method(_ channel: UInt16, _ classID: UInt16, _ methodID: UInt16, _ fill: (inout FrameWriter) -> Void = { _ in }) -> [UInt8]
    {
        var writer = FrameWriter()
        writer.short(classID)
        writer.short(methodID)
        fill(&writer)
        return frame(1, channel, writer.bytes)
    }
}

/// What a hostile or a broken broker might send. Each case is a function of its seed alone.
struct FrameFuzzer {
    private var random: SeededGenerator

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
    }

    /// A conversation of some frames, most of them damaged.
    mutating func conversation() -> [UInt8] {
        if chance(10) { return noise(1...4096) }
        var frames: [[UInt8]] = []
        for _ in 0..<number(1...6) { frames += someFrames() }
        // Out of order, twice, or not at all.
        if chance(20) { frames.shuffle(using: &random) }
        if chance(10) { frames.insert(frames.randomElement(using: &random)!, at: 0) }
        if chance(10) { frames.removeFirst() }
        return frames.flatMap { frame in chance(40) ? mutate(frame) : frame }
    }

    /// The frame, damaged.
    mutating func mutate(_ frame: [UInt8]) -> [UInt8] {
        var frame = frame
        switch number(0...8) {
        case 0, 1:
            for _ in 0..<number(1...8) { frame[number(frame.indices)] ^= 1 << UInt8(number(0...7)) }
        case 2:
            // A size that lies.
            let sizes: [UInt32] = [0, 1, 3, 11, 12, UInt32(frame.count), 131_064, 131_065, 1 << 20, .max >> 1, (.max >> 1) - 8, .max]
            let size = sizes.randomElement(using: &random)!
            for index in 0..<4 { frame[3 + index] = UInt8(truncatingIfNeeded: size >> (24 - 8 * UInt32(index))) }
        case 3:
            // Shorter than it was meant to be, and honest about it.
            guard frame.count > 8 else { break }
            let payload = Array(frame[7..<number(7...frame.count - 1)])
            frame = FrameWriter.frame(frame[0], UInt16(frame[1]) << 8 | UInt16(frame[2]), payload)
        case 4: frame.removeLast(number(1...frame.count))
        case 5: frame[0] = UInt8(number(0...255))
        case 6:
            let channel = [0, 1, 2, 3, 4, 9, 2047, 2048, 40_000, 65_535].randomElement(using: &random)!
            (frame[1], frame[2]) = (UInt8(channel >> 8), UInt8(channel & 255))
        case 7: frame[frame.count - 1] = UInt8(number(0...255))
        default:
            // Other bytes behind the same class and method.
            guard frame.count > 12 else { break }
            for index in 11..<frame.count - 1 { frame[index] = UInt8(number(0...255)) }
        }
        return frame
    }

    // MARK: Frames

    private mutating func someFrames() -> [[UInt8]] {
        let channel = UInt16(chance(80) ? number(1...3) : number(0...65_535))
        switch number(0...15) {
        case 0, 1, 2: return content(deliver(channel), channel)
        case 3, 4: return content(returned(channel), channel)
        case 5, 6:
            let (tag, multiple, nack) = (tag(), UInt8(number(0...3)), chance(30))
            return [
                FrameWriter.method(channel, 60, nack ? 120 : 80) {
                    $0.longLong(tag)
                    $0.octet(multiple)
                }
            ]
        case 7:
            let (code, text) = (UInt16([200, 311, 312, 403, 404, 405, 406, 540, 0, 65_535].randomElement(using: &random)!), text())
            return [
                FrameWriter.method(channel, 20, 40) {
                    $0.short(code)
                    $0.name(text)
                    $0.short(60)
                    $0.short(40)
                }
            ]
        case 8:
            let text = text()
            return [
                FrameWriter.method(channel, 60, 30) {
                    $0.name(text)
                    $0.octet(1)
                }
            ]
        case 9:
            let text = text()
            return [FrameWriter.method(chance(80) ? 0 : channel, 10, chance(50) ? 60 : 61) { $0.name(text) }]
        case 10:
            let text = text()
            return [
                FrameWriter.method(0, 10, 50) {
                    $0.short(320)
                    $0.name(text)
                    $0.longLong(0)
                }
            ]
        case 11:
            // Answers that nobody asked for.
            let answer: (UInt16, UInt16) = [
                (20, 11), (20, 21), (20, 41), (40, 11), (50, 11), (50, 21), (50, 41), (60, 11), (60, 21), (60, 31), (60, 71), (60, 72),
                (60, 111),
                (85, 11), (90, 11), (10, 51), (10, 41), (10, 70),
            ].randomElement(using: &random)!
            let payload = noise(0...40)
            return [FrameWriter.method(channel, answer.0, answer.1) { $0.bytes += payload }]
        case 12:
            // What only a client may send, and what nobody knows.
            let payload = noise(0...60)
            let (classID, methodID) = (UInt16(number(0...100)), UInt16(number(0...120)))
            return [FrameWriter.method(channel, classID, methodID) { $0.bytes += payload }]
        case 13: return [FrameWriter.frame(8, chance(50) ? 0 : channel, chance(70) ? [] : noise(1...20))]
        case 14: return [FrameWriter.frame(3, channel, noise(0...200))]
        default: return [header(channel, bodySize: UInt64(number(0...100)))]
        }
    }

    private mutating func deliver(_ channel: UInt16) -> [UInt8] {
        let (tag, consumer, exchange, key) = (tag(), text(), text(), text())
        return FrameWriter.method(channel, 60, 60) {
            $0.name(consumer)
            $0.longLong(tag)
            $0.octet(0)
            $0.name(exchange)
            $0.name(key)
        }
    }

    private mutating func returned(_ channel: UInt16) -> [UInt8] {
        let (reason, exchange, key) = (text(), text(), text())
        return FrameWriter.method(channel, 60, 50) {
            $0.short(312)
            $0.name(reason)
            $0.name(exchange)
            $0.name(key)
        }
    }

    private mutating func content(_ method: [UInt8], _ channel: UInt16) -> [[UInt8]] {
        let size = number(0...300)
        let announced: UInt64 =
            chance(15) ? [0, 1, UInt64(size) + 1, 1 << 24, 1 << 40, .max, .max >> 1].randomElement(using: &random)! : UInt64(size)
        var frames = [method, header(channel, bodySize: announced)]
        var left = size
        while left > 0 {
            let part = number(1...left)
            frames.append(FrameWriter.frame(3, channel, noise(part...part)))
            left -= part
        }
        return frames
    }

    private mutating func header(_ channel: UInt16, bodySize: UInt64) -> [UInt8] {
        var writer = FrameWriter()
        writer.short(chance(95) ? 60 : UInt16(number(0...100)))
        writer.short(0)
        writer.longLong(bodySize)
        if chance(80) {
            // Content type, headers, delivery mode, correlation and message identifier.
            writer.short(0b1011_0100_1000_0000)
            writer.name(text())
            writer.longString(table(depth: 0))
            writer.octet(UInt8(number(0...255)))
            writer.name(text())
            writer.name(text())
        } else {
            writer.short(UInt16(number(0...65_535)))
            writer.bytes += noise(0...100)
        }
        return FrameWriter.frame(2, channel, writer.bytes)
    }

    /// The inside of a header table, right or wrong.
    mutating func table(depth: Int) -> [UInt8] {
        if depth == 0, chance(5) { return nest(levels: number(1...25_000)) }
        var writer = FrameWriter()
        for _ in 0..<number(0...4) {
            writer.name(text())
            writer.bytes += field(depth: depth)
        }
        return writer.bytes
    }

    private mutating func field(depth: Int) -> [UInt8] {
        var writer = FrameWriter()
        let kinds = Array("tbBsuIilLfdDSxTAFV".utf8)
        let kind = chance(95) ? kinds.randomElement(using: &random)! : UInt8(number(0...255))
        writer.octet(kind)
        switch kind {
        case UInt8(ascii: "S"), UInt8(ascii: "x"): writer.longString(noise(0...50))
        case UInt8(ascii: "F"): writer.longString(depth < 5 ? table(depth: depth + 1) : [])
        case UInt8(ascii: "A"): writer.longString(depth < 5 && chance(60) ? field(depth: depth + 1) : noise(0...6))
        case UInt8(ascii: "V"): break
        case UInt8(ascii: "t"), UInt8(ascii: "b"), UInt8(ascii: "B"): writer.octet(UInt8(number(0...255)))
        case UInt8(ascii: "s"), UInt8(ascii: "u"): writer.bytes += noise(2...2)
        case UInt8(ascii: "I"), UInt8(ascii: "i"), UInt8(ascii: "f"): writer.bytes += noise(4...4)
        case UInt8(ascii: "D"): writer.bytes += noise(5...5)
        default: writer.bytes += noise(8...8)
        }
        return writer.bytes
    }

    /// Arrays in arrays: five bytes a level.
    private func nest(levels: Int) -> [UInt8] {
        var writer = FrameWriter()
        writer.name("k")
        for level in 0..<levels {
            writer.octet(UInt8(ascii: "A"))
            writer.long(UInt32((levels - 1 - level) * 5))
        }
        return writer.bytes
    }

    // MARK: Chance

    private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
    private mutating func number(_ range: ClosedRange<Int>) -> Int { .random(in: range, using: &random) }
    private mutating func number(_ range: Range<Int>) -> Int { .random(in: range, using: &random) }

    private mutating func noise(_ size: ClosedRange<Int>) -> [UInt8] {
        (0..<number(size)).map { _ in UInt8.random(in: .min ... .max, using: &random) }
    }

    private mutating func tag() -> UInt64 {
        [0, 1, 2, 3, 4, 5, 1000, 1 << 32, .max >> 1, .max - 1, .max].randomElement(using: &random)!
    }

    private mutating func text() -> String {
        chance(90) ? "k\(number(0...9))" : String(repeating: chance(50) ? "ü" : "x", count: number(0...127))
    }
}
