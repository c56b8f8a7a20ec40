/// What a job needs of its machine besides a slot.
package struct JobResources: Sendable, Hashable, Codable {
    /// Bytes that all of the job's processes may use together; nil for no limit of its own.
    package var memory: Int64?
    /// Devices that the job has for itself.
    package var gpus: Int

    package static let none = JobResources()

    package init(memory: Int64? = nil, gpus: Int = 0) {
        self.memory = memory
        self.gpus = gpus
    }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        memory = try values.decodeIfPresent(Int64.self, forKey: .memory)
        gpus = try values.decodeIfPresent(Int.self, forKey: .gpus) ?? 0
    }
}

/// Bytes as people write them: `4G`, `512M`, `1.5G`, `2GiB`, or a plain number. K, M, G and T are powers of 1024.
package enum ByteCount {
    /// - Returns: nil when `text` is no number of bytes, is not positive, or does not fit.
    package static func parse(_ text: String) -> Int64? {
        let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        var unit = text.dropFirst(number.count).uppercased()
        if unit.first == " " { unit.removeFirst() }
        if unit.hasSuffix("IB") { unit.removeLast(2) } else if unit.hasSuffix("B") { unit.removeLast() }
        guard let factor = factors[unit], let value = Double(number), value > 0 else { return nil }
        let bytes = value * factor
        // 2^62: a Double next to Int64.max would not fit.
        guard bytes >= 1, bytes <= 4_611_686_018_427_387_904 else { return nil }
        return Int64(bytes)
    }

    /// As `parse` reads it: whole units where they fit.
    package static func text(_ bytes: Int64) -> String {
        for unit in ["T", "G", "M", "K"] {
            let factor = Int64(factors[unit] ?? 1)
            if bytes >= factor, bytes % factor == 0 { return "\(bytes / factor)\(unit)" }
        }
        return "\(bytes)"
    }

    private static let factors: [String: Double] = ["": 1, "K": 1024, "M": 1_048_576, "G": 1_073_741_824, "T": 1_099_511_627_776]
}
