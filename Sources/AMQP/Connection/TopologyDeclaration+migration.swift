extension AMQPExchange {
    /// How to get from the exchange that is there to this one.
    func migration(_ mismatch: AMQPMismatch?) -> String {
        """
        \(mismatch.difference(of: "exchange", name)) (we want kind \(kind.rawValue), durable \(durable), arguments \
        \(arguments.display)). They cannot be changed: declare an exchange of a new name (\(nextVersion(of: name))), bind the queues \
        to both until nobody publishes to the old one, then delete that; or stop its users, delete it and start again.
        """
    }
}

extension AMQPQueue {
    /// How to get from the queue that is there to this one.
    func migration(_ mismatch: AMQPMismatch?) -> String {
        var text = """
            \(mismatch.difference(of: "queue", name)) (we want durable \(durable), exclusive \(exclusive), auto-delete \(autoDelete), \
            arguments \(arguments.display)). They cannot be changed: give the queue a new name (the next version, \
            \(nextVersion(of: name))), let consumers take from both until the old one is empty, then delete that; or, where its messages \
            may go, delete it with `rabbitmqctl delete_queue \(name)\(mismatch?.virtualHost.map { " --vhost \($0)" } ?? "")` and start again.
            """
        if let argument = mismatch?.argument, argument.hasPrefix("x-"), Self.policyKeys.contains(String(argument.dropFirst(2))) {
            let key = argument.dropFirst(2)
            text += """
                 Left out of the declaration, \(argument) could be changed at any time by a policy: `rabbitmqctl set_policy NAME \
                "^\(name)$" '{"\(key)": VALUE}' --apply-to queues`; the new queue is the moment for that.
                """
        } else if mismatch?.objection == nil, let argument = mismatch?.argument, argument.hasPrefix("x-") {
            text += " No policy can set \(argument)."
        }
        return text
    }

    /// What a policy can set instead of an argument, which has the same name behind `x-`. An argument wins over a policy, and cannot be
    /// taken away.
    private static let policyKeys: Set<String> = [
        "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy", "message-ttl", "expires", "max-length",
        "max-length-bytes", "overflow", "delivery-limit", "queue-version", "queue-leader-locator", "max-age",
        "stream-max-segment-size-bytes",
    ]
}

extension AMQPMismatch? {
    fileprivate func difference(of kind: String, _ name: String) -> String {
        guard let self else { return "The \(kind) \(name) exists with other properties" }
        if let objection = self.objection { return "The broker does not take \(self.argument) for the \(kind) \(name): \(objection)" }
        guard self.wanted != nil || self.current != nil else { return "The \(kind) \(name) exists with another \(self.argument)" }
        return "The \(kind) \(name) exists with \(self.argument) \(self.current ?? "none"), we want \(self.wanted ?? "none")"
    }
}

/// `dcm.jobs.v1` becomes `dcm.jobs.v2`; a name without a version gets one.
private func nextVersion(of name: String) -> String {
    guard let dot = name.lastIndex(of: "."), name[dot...].hasPrefix(".v"), let version = Int(name[dot...].dropFirst(2)) else {
        return "\(name).v2"
    }
    return "\(name[..<dot]).v\(version + 1)"
}

extension AMQPTable {
    /// For messages to people.
    fileprivate var display: String {
        isEmpty ? "none" : sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.display)" }.joined(separator: " ")
    }
}

extension AMQPValue {
    fileprivate var display: String {
        switch self {
        case .string(let value): value
        case .bool(let value): "\(value)"
        default: integer.map(String.init) ?? "\(self)"
        }
    }
}
