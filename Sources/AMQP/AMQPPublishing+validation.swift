extension AMQPPublishing {
    /// What makes the message impossible to send; nil when nothing does. The C library does not check: it would truncate.
    func problem(maximumBodySize: Int) -> String? {
        let names: [(String, String?)] = [
            ("exchange", exchange), ("routingKey", routingKey), ("contentType", properties.contentType),
            ("contentEncoding", properties.contentEncoding), ("type", properties.type), ("messageID", properties.messageID),
            ("correlationID", properties.correlationID), ("replyTo", properties.replyTo), ("appID", properties.appID),
            ("expiration", properties.expiration),
        ]
        for case (let name, let value?) in names where value.utf8.count > 255 {
            return "\(name) has \(value.utf8.count) bytes, 255 are allowed"
        }
        guard body.count <= maximumBodySize else {
            return "the body has \(body.count) bytes, \(maximumBodySize) are allowed; send a reference instead of the data"
        }
        return properties.headers.problem()
    }
}

extension Dictionary where Key == String, Value == AMQPValue {
    /// What makes the table impossible to send; nil when nothing does.
    func problem(depth: Int = 0) -> String? {
        guard depth < maximumTableDepth else { return "a header table nests deeper than \(maximumTableDepth) levels" }
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
