package import Foundation

/// A header table or an argument table: names up to 128 bytes.
package typealias AMQPTable = [String: AMQPValue]

/// A value of an AMQP table, every field type that RabbitMQ knows.
package enum AMQPValue: Sendable, Hashable {
    case bool(Bool)
    case int8(Int8)
    case int16(Int16)
    case int32(Int32)
    case int64(Int64)
    case uint8(UInt8)
    case uint16(UInt16)
    case uint32(UInt32)
    /// RabbitMQ cannot parse an unsigned 64-bit field: it is sent as `int64` when it fits and refused when it does not.
    case uint64(UInt64)
    case float(Float)
    case double(Double)
    /// `value / 10^scale`.
    case decimal(scale: UInt8, value: UInt32)
    case string(String)
    /// Bytes that are not text.
    case bytes([UInt8])
    /// Whole seconds since 1970.
    case timestamp(UInt64)
    case array([AMQPValue])
    case table(AMQPTable)
    case void
}

extension AMQPValue: ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int64) { self = .int64(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
}

extension AMQPValue: ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral {
    package init(floatLiteral value: Double) { self = .double(value) }
    package init(arrayLiteral elements: AMQPValue...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, AMQPValue)...) {
        self = .table(AMQPTable(elements, uniquingKeysWith: { $1 }))
    }
}

extension AMQPValue {
    package static func date(_ date: Date) -> AMQPValue { .timestamp(UInt64(max(0, date.timeIntervalSince1970))) }

    /// The text, when this is text.
    package var string: String? {
        if case .string(let value) = self { value } else { nil }
    }

    /// The number, when this is a whole number that fits.
    package var integer: Int? {
        switch self {
        case .int8(let value): Int(value)
        case .int16(let value): Int(value)
        case .int32(let value): Int(value)
        case .int64(let value): Int(value)
        case .uint8(let value): Int(value)
        case .uint16(let value): Int(value)
        case .uint32(let value): Int(value)
        case .uint64(let value), .timestamp(let value): Int(exactly: value)
        default: nil
        }
    }

    package var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    package var array: [AMQPValue]? {
        if case .array(let value) = self { value } else { nil }
    }

    package var table: AMQPTable? {
        if case .table(let value) = self { value } else { nil }
    }
}
