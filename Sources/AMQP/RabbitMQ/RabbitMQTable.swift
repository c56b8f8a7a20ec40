import CRabbitMQ

/// How deep tables and arrays may nest, both ways. Nothing sensible comes near; hostile messages do.
let maximumTableDepth = 16

// MARK: Swift to C

extension RabbitMQPool {
    /// The table in this pool's memory. Check it with `AMQPTable.problem` first.
    func table(_ table: AMQPTable) -> amqp_table_t {
        guard !table.isEmpty else { return amqp_empty_table }
        let entries = allocate(amqp_table_entry_t.self, count: table.count)
        for (index, entry) in table.enumerated() {
            entries.advanced(by: index).initialize(to: amqp_table_entry_t(key: bytes(entry.key), value: field(entry.value)))
        }
        return amqp_table_t(num_entries: Int32(table.count), entries: entries)
    }

    private func field(_ value: AMQPValue) -> amqp_field_value_t {
        var field = amqp_field_value_t()
        func set(_ kind: amqp_field_value_kind_t) { field.kind = UInt8(kind.rawValue) }
        switch value {
        case .bool(let value):
            set(AMQP_FIELD_KIND_BOOLEAN)
            field.value.boolean = value ? 1 : 0
        case .int8(let value):
            set(AMQP_FIELD_KIND_I8)
            field.value.i8 = value
        case .int16(let value):
            set(AMQP_FIELD_KIND_I16)
            field.value.i16 = value
        case .int32(let value):
            set(AMQP_FIELD_KIND_I32)
            field.value.i32 = value
        case .int64(let value):
            set(AMQP_FIELD_KIND_I64)
            field.value.i64 = value
        case .uint8(let value):
            set(AMQP_FIELD_KIND_U8)
            field.value.u8 = value
        case .uint16(let value):
            set(AMQP_FIELD_KIND_U16)
            field.value.u16 = value
        case .uint32(let value):
            set(AMQP_FIELD_KIND_U32)
            field.value.u32 = value
        case .uint64(let value):
            set(AMQP_FIELD_KIND_I64)
            field.value.i64 = Int64(clamping: value)
        case .float(let value):
            set(AMQP_FIELD_KIND_F32)
            field.value.f32 = value
        case .double(let value):
            set(AMQP_FIELD_KIND_F64)
            field.value.f64 = value
        case .decimal(let scale, let value):
            set(AMQP_FIELD_KIND_DECIMAL)
            field.value.decimal = amqp_decimal_t(decimals: scale, value: value)
        case .string(let value):
            set(AMQP_FIELD_KIND_UTF8)
            field.value.bytes = bytes(value)
        case .bytes(let value):
            set(AMQP_FIELD_KIND_BYTES)
            field.value.bytes = bytes(value)
        case .timestamp(let value):
            set(AMQP_FIELD_KIND_TIMESTAMP)
            field.value.u64 = value
        case .array(let values):
            set(AMQP_FIELD_KIND_ARRAY)
            let entries = allocate(amqp_field_value_t.self, count: values.count)
            for (index, value) in values.enumerated() {
                entries.advanced(by: index).initialize(to: self.field(value))
            }
            field.value.array = amqp_array_t(num_entries: Int32(values.count), entries: entries)
        case .table(let value):
            set(AMQP_FIELD_KIND_TABLE)
            field.value.table = table(value)
        case .void:
            set(AMQP_FIELD_KIND_VOID)
        }
        return field
    }
}

// MARK: C to Swift

extension Dictionary where Key == String, Value == AMQPValue {
    /// Nil when the table nests too deep or holds a field type that we do not know.
    init?(_ table: amqp_table_t, depth: Int = 0) {
        guard depth < maximumTableDepth else { return nil }
        self.init(minimumCapacity: Int(table.num_entries))
        for index in 0..<Int(table.num_entries) {
            let entry = table.entries[index]
            guard let value = AMQPValue(entry.value, depth: depth) else { return nil }
            self[String(entry.key)] = value
        }
    }
}

extension AMQPValue {
    fileprivate init?(_ field: amqp_field_value_t, depth: Int) {
        switch amqp_field_value_kind_t(UInt32(field.kind)) {
        case AMQP_FIELD_KIND_BOOLEAN: self = .bool(field.value.boolean != 0)
        case AMQP_FIELD_KIND_I8: self = .int8(field.value.i8)
        case AMQP_FIELD_KIND_I16: self = .int16(field.value.i16)
        case AMQP_FIELD_KIND_I32: self = .int32(field.value.i32)
        case AMQP_FIELD_KIND_I64: self = .int64(field.value.i64)
        case AMQP_FIELD_KIND_U8: self = .uint8(field.value.u8)
        case AMQP_FIELD_KIND_U16: self = .uint16(field.value.u16)
        case AMQP_FIELD_KIND_U32: self = .uint32(field.value.u32)
        case AMQP_FIELD_KIND_U64: self = .uint64(field.value.u64)
        case AMQP_FIELD_KIND_F32: self = .float(field.value.f32)
        case AMQP_FIELD_KIND_F64: self = .double(field.value.f64)
        case AMQP_FIELD_KIND_DECIMAL: self = .decimal(scale: field.value.decimal.decimals, value: field.value.decimal.value)
        case AMQP_FIELD_KIND_UTF8:
            // A "long string" may hold anything; what is not UTF-8 stays bytes.
            let bytes = UnsafeRawBufferPointer(field.value.bytes)
            self = String(validating: bytes, as: UTF8.self).map(AMQPValue.string) ?? .bytes([UInt8](bytes))
        case AMQP_FIELD_KIND_BYTES: self = .bytes([UInt8](UnsafeRawBufferPointer(field.value.bytes)))
        case AMQP_FIELD_KIND_TIMESTAMP: self = .timestamp(field.value.u64)
        case AMQP_FIELD_KIND_ARRAY:
            guard depth + 1 < maximumTableDepth else { return nil }
            let array = field.value.array
            var values: [AMQPValue] = []
            values.reserveCapacity(Int(array.num_entries))
            for index in 0..<Int(array.num_entries) {
                guard let value = AMQPValue(array.entries[index], depth: depth + 1) else { return nil }
                values.append(value)
            }
            self = .array(values)
        case AMQP_FIELD_KIND_TABLE:
            guard let table = AMQPTable(field.value.table, depth: depth + 1) else { return nil }
            self = .table(table)
        case AMQP_FIELD_KIND_VOID: self = .void
        default: return nil
        }
    }
}

extension UnsafeRawBufferPointer {
    init(_ bytes: amqp_bytes_t) {
        self.init(start: bytes.bytes, count: bytes.len)
    }
}

extension String {
    init(_ bytes: amqp_bytes_t) {
        self.init(decoding: UnsafeRawBufferPointer(bytes), as: UTF8.self)
    }
}

// MARK: The wire format, for tests and fuzzing

enum RabbitMQTableCodec {
    /// The table as the bytes that travel, with its length in front; nil when the library refuses.
    static func encode(_ table: AMQPTable, capacity: Int = 131_072) -> [UInt8]? {
        let pool = RabbitMQPool()
        var input = pool.table(table)
        var length = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            let output = amqp_bytes_t(len: capacity, bytes: buffer.baseAddress)
            let status = amqp_encode_table(output, &input, &length)
            count = status == AMQP_STATUS_OK.rawValue ? length : 0
        }
        return bytes.isEmpty ? nil : bytes
    }

    static func decode(_ bytes: [UInt8]) -> AMQPTable? {
        let pool = RabbitMQPool()
        var bytes = bytes
        return bytes.withUnsafeMutableBytes { buffer in
            var output = amqp_table_t()
            var offset = 0
            let input = amqp_bytes_t(len: buffer.count, bytes: buffer.baseAddress)
            let status = pool.withPointer { amqp_decode_table(input, $0, &output, &offset) }
            // The decoded table points into `bytes` and the pool: it is copied before either goes away.
            return status == AMQP_STATUS_OK.rawValue ? AMQPTable(output) : nil
        }
    }
}
