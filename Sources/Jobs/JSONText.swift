import Foundation
import Glibc

// JSON text to and from `JSONValue`. Foundation's coders go through a container and two existential calls for each value, and through a
// thrown error for each type that a value is not; of what a job costs the router, that was the largest part.

/// Reads one document that is UTF-8.
///
/// Stricter than what it stands in front of: whatever it does not take, Foundation's reader decides about, and says what is wrong.
struct JSONReader {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var position = 0

    /// Levels of nesting that are read here, so that no thread's stack is too short.
    private static let depthLimit = 128

    /// Not what is taken here: Foundation shall look.
    private struct Refused: Error {}

    /// - Returns: nil for what is not a document, or not one that is read here.
    static func value(_ bytes: UnsafeBufferPointer<UInt8>) -> JSONValue? {
        var reader = JSONReader(bytes)
        return try? reader.document()
    }

    private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    private mutating func document() throws(Refused) -> JSONValue {
        let value = try value(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw Refused() }
        return value
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x0a, 0x0d, 0x09: position += 1
            default: return
            }
        }
    }

    private mutating func next() throws(Refused) -> UInt8 {
        guard position < bytes.count else { throw Refused() }
        defer { position += 1 }
        return bytes[position]
    }

    private mutating func value(depth: Int) throws(Refused) -> JSONValue {
        guard depth < Self.depthLimit else { throw Refused() }
        skipSpace()
        guard position < bytes.count else { throw Refused() }
        switch bytes[position] {
        case UInt8(ascii: "\""):
            position += 1
            return .string(try string())
        case UInt8(ascii: "{"):
            position += 1
            return .object(try members(depth: depth))
        case UInt8(ascii: "["):
            position += 1
            return .array(try elements(depth: depth))
        case UInt8(ascii: "t"):
            try literal("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try literal("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try literal("null")
            return .null
        default: return try number()
        }
    }

    private mutating func literal(_ text: StaticString) throws(Refused) {
        let length = text.utf8CodeUnitCount
        guard bytes.count - position >= length, memcmp(bytes.baseAddress! + position, text.utf8Start, length) == 0 else { throw Refused() }
        position += length
    }

    private mutating func members(depth: Int) throws(Refused) -> [String: JSONValue] {
        var members: [String: JSONValue] = [:]
        skipSpace()
        if position < bytes.count, bytes[position] == UInt8(ascii: "}") {
            position += 1
            return members
        }
        while true {
            skipSpace()
            guard try next() == UInt8(ascii: "\"") else { throw Refused() }
            let key = try string()
            skipSpace()
            guard try next() == UInt8(ascii: ":") else { throw Refused() }
            let value = try value(depth: depth + 1)
            // Which of two equal keys counts is not for here to decide.
            guard members.updateValue(value, forKey: key) == nil else { throw Refused() }
            skipSpace()
            switch try next() {
            case UInt8(ascii: ","): continue
            case UInt8(ascii: "}"): return members
            default: throw Refused()
            }
        }
    }

    private mutating func elements(depth: Int) throws(Refused) -> [JSONValue] {
        var elements: [JSONValue] = []
        skipSpace()
        if position < bytes.count, bytes[position] == UInt8(ascii: "]") {
            position += 1
            return elements
        }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            switch try next() {
            case UInt8(ascii: ","): continue
            case UInt8(ascii: "]"): return elements
            default: throw Refused()
            }
        }
    }

    /// The opening quote has been read.
    private mutating func string() throws(Refused) -> String {
        let start = position
        while position < bytes.count {
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") {
                let text = UnsafeBufferPointer(rebasing: bytes[start..<position])
                position += 1
                guard let string = String(validating: text, as: UTF8.self) else { throw Refused() }
                return string
            }
            if byte == UInt8(ascii: "\\") { return try escapedString(from: start) }
            if byte < 0x20 { throw Refused() }
            position += 1
        }
        throw Refused()
    }

    private mutating func escapedString(from start: Int) throws(Refused) -> String {
        var text = [UInt8](bytes[start..<position])
        while true {
            let byte = try next()
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else { throw Refused() }
                return string
            case UInt8(ascii: "\\"):
                switch try next() {
                case UInt8(ascii: "\""): text.append(UInt8(ascii: "\""))
                case UInt8(ascii: "\\"): text.append(UInt8(ascii: "\\"))
                case UInt8(ascii: "/"): text.append(UInt8(ascii: "/"))
                case UInt8(ascii: "b"): text.append(0x08)
                case UInt8(ascii: "f"): text.append(0x0c)
                case UInt8(ascii: "n"): text.append(0x0a)
                case UInt8(ascii: "r"): text.append(0x0d)
                case UInt8(ascii: "t"): text.append(0x09)
                case UInt8(ascii: "u"): text.append(contentsOf: String(try escapedScalar()).utf8)
                default: throw Refused()
                }
            case 0..<0x20: throw Refused()
            default: text.append(byte)
            }
        }
    }

    /// After `\u`. Halves of a pair that stand alone are not taken.
    private mutating func escapedScalar() throws(Refused) -> Unicode.Scalar {
        let first = try hexadecimal()
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard (0xd800..<0xdc00).contains(first), try next() == UInt8(ascii: "\\"), try next() == UInt8(ascii: "u") else { throw Refused() }
        let second = try hexadecimal()
        guard (0xdc00..<0xe000).contains(second) else { throw Refused() }
        guard let scalar = Unicode.Scalar(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)) else { throw Refused() }
        return scalar
    }

    private mutating func hexadecimal() throws(Refused) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            let byte = try next()
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt32(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt32(byte - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | UInt32(byte - UInt8(ascii: "A") + 10)
            default: throw Refused()
            }
        }
        return value
    }

    private mutating func digits() -> Int {
        let start = position
        while position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]) { position += 1 }
        return position - start
    }

    private mutating func number() throws(Refused) -> JSONValue {
        let start = position
        if bytes[position] == UInt8(ascii: "-") { position += 1 }
        let first = position
        let whole = digits()
        guard whole > 0, whole == 1 || bytes[first] != UInt8(ascii: "0") else { throw Refused() }
        var isWhole = true
        if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
            isWhole = false
            position += 1
            guard digits() > 0 else { throw Refused() }
        }
        if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
            isWhole = false
            position += 1
            if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-") { position += 1 }
            guard digits() > 0 else { throw Refused() }
        }
        let text = bytes[start..<position]
        if isWhole, whole <= 18 {
            var value: Int64 = 0
            for byte in bytes[first..<position] { value = value * 10 + Int64(byte - UInt8(ascii: "0")) }
            return .integer(first == start ? value : -value)
        }
        // Rare: large integers, and numbers that only Foundation's rules tell integers from.
        let string = String(decoding: text, as: UTF8.self)
        if isWhole {
            guard let value = Int64(string) else { throw Refused() }
            return .integer(value)
        }
        // From 2^53 on Foundation rounds in its own way.
        guard let value = Double(string), abs(value) < 0x1p53 else { throw Refused() }
        return Int64(exactly: value).map { .integer($0) } ?? .number(value)
    }
}

/// Writes documents: no spaces, slashes as they are.
struct JSONWriter {
    /// Members of objects in the order of their names, so that equal values have equal bytes.
    let sortsKeys: Bool
    private(set) var bytes: [UInt8] = []

    init(sortsKeys: Bool) {
        self.sortsKeys = sortsKeys
        bytes.reserveCapacity(512)
    }

    mutating func write(_ value: JSONValue) {
        switch value {
        case .null: append(raw: "null")
        case .bool(let value): append(raw: value ? "true" : "false")
        case .integer(let value): append(value)
        case .number(let value): append(value)
        case .string(let text): append(text)
        case .array(let elements):
            bytes.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                write(element)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let members):
            bytes.append(UInt8(ascii: "{"))
            var isFirst = true
            func member(_ key: String, _ value: JSONValue) {
                if !isFirst { bytes.append(UInt8(ascii: ",")) }
                isFirst = false
                append(key)
                bytes.append(UInt8(ascii: ":"))
                write(value)
            }
            if sortsKeys {
                for (key, value) in members.sorted(by: { $0.key < $1.key }) { member(key, value) }
            } else {
                for (key, value) in members { member(key, value) }
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    mutating func append(raw text: StaticString) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    mutating func append(byte: UInt8) { bytes.append(byte) }

    mutating func append(_ value: Int64) { bytes.append(contentsOf: String(value).utf8) }

    mutating func append(_ value: Double) {
        // JSON has no such numbers; as text they can at least be read.
        if value.isNaN { return append(raw: "\"NaN\"") }
        if value.isInfinite { return value < 0 ? append(raw: "\"-Infinity\"") : append(raw: "\"Infinity\"") }
        var text = value.description
        if text.hasSuffix(".0") { text.removeLast(2) }
        bytes.append(contentsOf: text.utf8)
    }

    mutating func append(_ text: String) {
        var text = text
        bytes.append(UInt8(ascii: "\""))
        text.withUTF8 { utf8 in
            var start = 0
            for index in utf8.indices {
                let byte = utf8[index]
                guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
                bytes.append(contentsOf: utf8[start..<index])
                start = index + 1
                append(escaped: byte)
            }
            bytes.append(contentsOf: utf8[start...])
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private mutating func append(escaped byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""): append(raw: "\\\"")
        case UInt8(ascii: "\\"): append(raw: "\\\\")
        case 0x08: append(raw: "\\b")
        case 0x09: append(raw: "\\t")
        case 0x0a: append(raw: "\\n")
        case 0x0c: append(raw: "\\f")
        case 0x0d: append(raw: "\\r")
        default:
            append(raw: "\\u00")
            for digit in [byte >> 4, byte & 0xf] { bytes.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10) }
        }
    }
}
