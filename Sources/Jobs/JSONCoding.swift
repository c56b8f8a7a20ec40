package import Foundation

/// `Codable` values to and from JSON text, as Foundation's coders write and read it with dates as seconds since 1970, slashes unescaped and
/// numbers that JSON does not have as text; several times as fast, because ``JSONValue`` goes through whole.
///
/// What is not read here, garbage above all, Foundation reads: errors are its errors.
package enum JSONCoding {
    /// - Parameter sortsKeys: equal values have equal bytes.
    package static func encode(_ value: some Encodable, sortsKeys: Bool = false) throws -> [UInt8] {
        var writer = JSONWriter(sortsKeys: sortsKeys)
        try JSONTree(value).write(to: &writer)
        return writer.bytes
    }

    package static func decode<Value: Decodable>(_ type: Value.Type, from text: some DataProtocol) throws -> Value {
        let read: Value? = try? withBytes(of: text) { bytes in
            guard let document = JSONReader.value(bytes) else { throw NotReadHere() }
            return try TreeDecoder.decode(type, from: document)
        }
        if let read { return read }
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .secondsSince1970
        return try decoder.decode(type, from: Data(text))
    }

    static func document(_ text: some DataProtocol) -> JSONValue? {
        withBytes(of: text) { JSONReader.value($0) }
    }

    private static func withBytes<R>(of text: some DataProtocol, _ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R {
        if let result = try text.withContiguousStorageIfAvailable({ try body($0) }) { return result }
        return try [UInt8](text).withUnsafeBufferPointer { try body($0) }
    }
}

/// Not what is read here: Foundation decides.
private struct NotReadHere: Error {}

// MARK: - Writing

/// A document while it is made. Containers are references, because several may be open at a time.
private enum JSONTree {
    final class Array {
        var elements: [JSONTree] = []
    }

    final class Object {
        /// A name that is written twice stands twice here; no type of ours does that.
        var members: [(key: String, value: JSONTree)] = []
    }

    case value(JSONValue)
    case array(Array)
    case object(Object)

    init<Value: Encodable>(_ value: Value) throws {
        if Value.self == JSONValue.self, let value = value as? JSONValue {
            self = .value(value)
        } else if Value.self == String.self, let text = value as? String {
            self = .value(.string(text))
        } else if Value.self == Date.self, let date = value as? Date {
            self = .value(.number(date.timeIntervalSince1970))
        } else if Value.self == [String: JSONValue].self, let members = value as? [String: JSONValue] {
            self = .value(.object(members))
        } else {
            let encoder = TreeEncoder()
            try value.encode(to: encoder)
            // Foundation's refuses a top level that writes nothing; one inside becomes an empty object.
            self = encoder.tree ?? .object(Object())
        }
    }

    func write(to writer: inout JSONWriter) {
        switch self {
        case .value(let value): writer.write(value)
        case .array(let array):
            writer.append(byte: UInt8(ascii: "["))
            for (index, element) in array.elements.enumerated() {
                if index > 0 { writer.append(byte: UInt8(ascii: ",")) }
                element.write(to: &writer)
            }
            writer.append(byte: UInt8(ascii: "]"))
        case .object(let object):
            writer.append(byte: UInt8(ascii: "{"))
            let members = writer.sortsKeys ? object.members.sorted { $0.key < $1.key } : object.members
            for (index, member) in members.enumerated() {
                if index > 0 { writer.append(byte: UInt8(ascii: ",")) }
                writer.append(member.key)
                writer.append(byte: UInt8(ascii: ":"))
                member.value.write(to: &writer)
            }
            writer.append(byte: UInt8(ascii: "}"))
        }
    }

    static func integer(_ value: some BinaryInteger) -> JSONTree {
        .value(Int64(exactly: value).map { .integer($0) } ?? .number(Double(value)))
    }
}

/// Takes one value. Integers beyond 64 bits with a sign do not occur.
private final class TreeEncoder: Encoder, SingleValueEncodingContainer {
    var tree: JSONTree?
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Keys: CodingKey>(keyedBy type: Keys.Type) -> KeyedEncodingContainer<Keys> {
        if case .object(let object) = tree { return KeyedEncodingContainer(TreeKeyedEncoder(object: object)) }
        let object = JSONTree.Object()
        tree = .object(object)
        return KeyedEncodingContainer(TreeKeyedEncoder(object: object))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        let array = JSONTree.Array()
        tree = .array(array)
        return TreeUnkeyedEncoder(array: array)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }

    func encodeNil() { tree = .value(.null) }
    func encode(_ value: Bool) { tree = .value(.bool(value)) }
    func encode(_ value: String) { tree = .value(.string(value)) }
    func encode(_ value: Double) { tree = .value(.number(value)) }
    func encode(_ value: Float) { tree = .value(.number(Double(value))) }
    func encode(_ value: Int) { tree = .integer(value) }
    func encode(_ value: Int8) { tree = .integer(value) }
    func encode(_ value: Int16) { tree = .integer(value) }
    func encode(_ value: Int32) { tree = .integer(value) }
    func encode(_ value: Int64) { tree = .integer(value) }
    func encode(_ value: UInt) { tree = .integer(value) }
    func encode(_ value: UInt8) { tree = .integer(value) }
    func encode(_ value: UInt16) { tree = .integer(value) }
    func encode(_ value: UInt32) { tree = .integer(value) }
    func encode(_ value: UInt64) { tree = .integer(value) }
    func encode(_ value: some Encodable) throws { tree = try JSONTree(value) }
}

private struct TreeKeyedEncoder<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let object: JSONTree.Object
    var codingPath: [any CodingKey] { [] }

    private func add(_ tree: JSONTree, _ key: Key) { object.members.append((key.stringValue, tree)) }

    func encodeNil(forKey key: Key) { add(.value(.null), key) }
    func encode(_ value: Bool, forKey key: Key) { add(.value(.bool(value)), key) }
    func encode(_ value: String, forKey key: Key) { add(.value(.string(value)), key) }
    func encode(_ value: Double, forKey key: Key) { add(.value(.number(value)), key) }
    func encode(_ value: Float, forKey key: Key) { add(.value(.number(Double(value))), key) }
    func encode(_ value: Int, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: Int8, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: Int16, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: Int32, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: Int64, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: UInt, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: UInt8, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: UInt16, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: UInt32, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: UInt64, forKey key: Key) { add(.integer(value), key) }
    func encode(_ value: some Encodable, forKey key: Key) throws { add(try JSONTree(value), key) }

    func nestedContainer<Keys: CodingKey>(keyedBy type: Keys.Type, forKey key: Key) -> KeyedEncodingContainer<Keys> {
        let nested = JSONTree.Object()
        add(.object(nested), key)
        return KeyedEncodingContainer(TreeKeyedEncoder<Keys>(object: nested))
    }

    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
        let nested = JSONTree.Array()
        add(.array(nested), key)
        return TreeUnkeyedEncoder(array: nested)
    }

    func superEncoder() -> any Encoder { preconditionFailure("No type of ours has a superclass that encodes itself.") }
    func superEncoder(forKey key: Key) -> any Encoder { superEncoder() }
}

private struct TreeUnkeyedEncoder: UnkeyedEncodingContainer {
    let array: JSONTree.Array
    var codingPath: [any CodingKey] { [] }
    var count: Int { array.elements.count }

    private func add(_ tree: JSONTree) { array.elements.append(tree) }

    func encodeNil() { add(.value(.null)) }
    func encode(_ value: some Encodable) throws { add(try JSONTree(value)) }

    func nestedContainer<Keys: CodingKey>(keyedBy type: Keys.Type) -> KeyedEncodingContainer<Keys> {
        let nested = JSONTree.Object()
        add(.object(nested))
        return KeyedEncodingContainer(TreeKeyedEncoder<Keys>(object: nested))
    }

    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
        let nested = JSONTree.Array()
        add(.array(nested))
        return TreeUnkeyedEncoder(array: nested)
    }

    func superEncoder() -> any Encoder { preconditionFailure("No type of ours has a superclass that encodes itself.") }
}

// MARK: - Reading

/// Reads types from a document that has been parsed. Says nothing about what is wrong: Foundation's decoder is asked then.
private struct TreeDecoder: Decoder, SingleValueDecodingContainer {
    let value: JSONValue
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    static func decode<Value: Decodable>(_ type: Value.Type, from value: JSONValue) throws -> Value {
        if type == JSONValue.self, let value = value as? Value { return value }
        if type == String.self {
            guard let value = value.string as? Value else { throw NotReadHere() }
            return value
        }
        if type == Date.self {
            guard let value = Date(timeIntervalSince1970: try double(value)) as? Value else { throw NotReadHere() }
            return value
        }
        if type == [String: JSONValue].self {
            guard let value = value.object as? Value else { throw NotReadHere() }
            return value
        }
        // Foundation has rules of its own for these.
        if type == Data.self || type == URL.self || type == Decimal.self { throw NotReadHere() }
        return try Value(from: TreeDecoder(value: value))
    }

    static func integer<Value: FixedWidthInteger>(_ value: JSONValue) throws -> Value {
        guard case .integer(let number) = value, let exact = Value(exactly: number) else { throw NotReadHere() }
        return exact
    }

    static func double(_ value: JSONValue) throws -> Double {
        switch value {
        case .number(let number): return number
        case .integer(let number):
            guard let exact = Double(exactly: number) else { throw NotReadHere() }
            return exact
        default: throw NotReadHere()
        }
    }

    static func bool(_ value: JSONValue) throws -> Bool {
        guard case .bool(let bool) = value else { throw NotReadHere() }
        return bool
    }

    static func string(_ value: JSONValue) throws -> String {
        guard case .string(let text) = value else { throw NotReadHere() }
        return text
    }

    static func container<Keys: CodingKey>(_ value: JSONValue) throws -> KeyedDecodingContainer<Keys> {
        guard case .object(let members) = value else { throw NotReadHere() }
        return KeyedDecodingContainer(TreeKeyedDecoder<Keys>(members: members))
    }

    static func unkeyedContainer(_ value: JSONValue) throws -> any UnkeyedDecodingContainer {
        guard case .array(let elements) = value else { throw NotReadHere() }
        return TreeUnkeyedDecoder(elements: elements)
    }

    func container<Keys: CodingKey>(keyedBy type: Keys.Type) throws -> KeyedDecodingContainer<Keys> { try Self.container(value) }
    func unkeyedContainer() throws -> any UnkeyedDecodingContainer { try Self.unkeyedContainer(value) }
    func singleValueContainer() -> any SingleValueDecodingContainer { self }

    func decodeNil() -> Bool { value == .null }
    func decode(_ type: Bool.Type) throws -> Bool { try Self.bool(value) }
    func decode(_ type: String.Type) throws -> String { try Self.string(value) }
    func decode(_ type: Double.Type) throws -> Double { try Self.double(value) }
    func decode(_ type: Float.Type) throws -> Float { throw NotReadHere() }
    func decode(_ type: Int.Type) throws -> Int { try Self.integer(value) }
    func decode(_ type: Int8.Type) throws -> Int8 { try Self.integer(value) }
    func decode(_ type: Int16.Type) throws -> Int16 { try Self.integer(value) }
    func decode(_ type: Int32.Type) throws -> Int32 { try Self.integer(value) }
    func decode(_ type: Int64.Type) throws -> Int64 { try Self.integer(value) }
    func decode(_ type: UInt.Type) throws -> UInt { try Self.integer(value) }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try Self.integer(value) }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try Self.integer(value) }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try Self.integer(value) }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try Self.integer(value) }
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try Self.decode(type, from: value) }
}

private struct TreeKeyedDecoder<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let members: [String: JSONValue]
    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { members.keys.compactMap(Key.init(stringValue:)) }

    private func value(_ key: Key) throws -> JSONValue {
        guard let value = members[key.stringValue] else { throw NotReadHere() }
        return value
    }

    func contains(_ key: Key) -> Bool { members[key.stringValue] != nil }
    func decodeNil(forKey key: Key) throws -> Bool { try value(key) == .null }
    func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try TreeDecoder.bool(try value(key)) }
    func decode(_ type: String.Type, forKey key: Key) throws -> String { try TreeDecoder.string(try value(key)) }
    func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try TreeDecoder.double(try value(key)) }
    func decode(_ type: Float.Type, forKey key: Key) throws -> Float { throw NotReadHere() }
    func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 { try TreeDecoder.integer(try value(key)) }
    func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 { try TreeDecoder.integer(try value(key)) }
    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        try TreeDecoder.decode(type, from: try value(key))
    }

    func nestedContainer<Keys: CodingKey>(keyedBy type: Keys.Type, forKey key: Key) throws -> KeyedDecodingContainer<Keys> {
        try TreeDecoder.container(try value(key))
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try TreeDecoder.unkeyedContainer(try value(key))
    }

    func superDecoder() throws -> any Decoder { throw NotReadHere() }
    func superDecoder(forKey key: Key) throws -> any Decoder { throw NotReadHere() }
}

private struct TreeUnkeyedDecoder: UnkeyedDecodingContainer {
    let elements: [JSONValue]
    private(set) var currentIndex = 0

    init(elements: [JSONValue]) { self.elements = elements }

    var codingPath: [any CodingKey] { [] }
    var count: Int? { elements.count }
    var isAtEnd: Bool { currentIndex == elements.count }

    private mutating func next() throws -> JSONValue {
        guard !isAtEnd else { throw NotReadHere() }
        defer { currentIndex += 1 }
        return elements[currentIndex]
    }

    mutating func decodeNil() throws -> Bool {
        guard !isAtEnd else { throw NotReadHere() }
        guard elements[currentIndex] == .null else { return false }
        currentIndex += 1
        return true
    }

    mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try TreeDecoder.decode(type, from: try next()) }

    mutating func nestedContainer<Keys: CodingKey>(keyedBy type: Keys.Type) throws -> KeyedDecodingContainer<Keys> {
        try TreeDecoder.container(try next())
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try TreeDecoder.unkeyedContainer(try next()) }
    mutating func superDecoder() throws -> any Decoder { throw NotReadHere() }
}
