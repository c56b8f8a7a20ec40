extension AMQPPublishing {
    /// What makes the message impossible to send; nil when nothing does. The C library does not check: it would truncate.
    func problem(maximumBodySize: Int) -> String? {
        func tooLong(_ name: StaticString, _ value: String?) -> String? {
            guard let count = value?.utf8.count, count > 255 else { return nil }
            return "\(name) has \(count) bytes, 255 are allowed"
        }
        let problem =
            tooLong("exchange", exchange) ?? tooLong("routingKey", routingKey) ?? tooLong("contentType", properties.contentType)
            ?? tooLong("contentEncoding", properties.contentEncoding) ?? tooLong("type", properties.type)
            ?? tooLong("messageID", properties.messageID) ?? tooLong("correlationID", properties.correlationID)
            ?? tooLong("replyTo", properties.replyTo) ?? tooLong("appID", properties.appID)
            ?? tooLong("expiration", properties.expiration)
        if let problem { return problem }
        guard body.count <= maximumBodySize else {
            return "the body has \(body.count) bytes, \(maximumBodySize) are allowed; send a reference instead of the data"
        }
        return properties.headers.problem()
    }
}

extension Dictionary where Key == String, Value == AMQPValue {
    /// What makes the table impossible to send; nil when nothing does.
    func problem(depth: Int = 0) -> String? {
        // Before all else: an empty table too would be refused where it arrives.
        guard depth < maximumTableDepth else { return "a header table nests deeper than \(maximumTableDepth) levels" }
        guard !isEmpty else { return nil }
        for (key, value) in self {
            guard key.utf8.count <= 128 else { return "a header's name has \(key.utf8.count) bytes, 128 are allowed" }
            if let problem = value.problem(depth: depth) { return problem }
        }
        return nil
    }
}

extension AMQPValue {
    fileprivate func problem(depth: Int) -> String? {
        switch self {
        case .table(let table): return table.problem(depth: depth + 1)
        case .array(let values):
            guard depth + 1 < maximumTableDepth else { return "a header table nests deeper than \(maximumTableDepth) levels" }
            return values.lazy.compactMap { $0.problem(depth: depth + 1) }.first
        case .uint64(let value) where value > UInt64(Int64.max): return "an unsigned number over 2^63-1 cannot travel in a header"
        default: return nil
        }
    }
}
