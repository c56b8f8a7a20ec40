/// How long one attempt of a job may run.
///
/// Accepts upstream's forms (seconds as a number or as text, `30s`, `5m`, `1h`, `2d`, `-1` for no limit) and
/// combinations in falling order such as `1h30m` or `1h 30m`.
package enum JobTimeout: Sendable, Hashable {
    case never
    case after(seconds: Int)

    /// Upstream's default.
    package static let standard = JobTimeout.after(seconds: 3600)

    /// - Returns: nil when `text` is none of the accepted forms, or is zero.
    package init?(_ text: String) {
        if let seconds = Int(text) {
            self.init(seconds: seconds)
            return
        }
        var total = 0
        var digits = ""
        var previousUnit = Int.max
        for character in text {
            if character.isASCII, character.isNumber {
                digits.append(character)
                continue
            }
            // Only between two of them.
            if character == " ", digits.isEmpty, total > 0, text.last != " " { continue }
            guard let unit = Self.units[character], unit < previousUnit, let count = Int(digits) else { return nil }
            let (product, overflow) = count.multipliedReportingOverflow(by: unit)
            let (sum, carried) = total.addingReportingOverflow(product)
            guard !overflow, !carried else { return nil }
            total = sum
            previousUnit = unit
            digits = ""
        }
        guard digits.isEmpty, total > 0 else { return nil }
        self = .after(seconds: total)
    }

    /// - Returns: nil unless `seconds` is positive, or -1 (upstream's "no limit").
    package init?(seconds: Int) {
        switch seconds {
        case -1: self = .never
        case 1...: self = .after(seconds: seconds)
        default: return nil
        }
    }

    package var seconds: Int? {
        switch self {
        case .never: nil
        case .after(let seconds): seconds
        }
    }

    private static let units: [Character: Int] = ["d": 86400, "h": 3600, "m": 60, "s": 1]
}

extension JobTimeout: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let seconds = try container.decode(Int.self)
        guard let timeout = JobTimeout(seconds: seconds) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "a timeout is -1 or a positive number of seconds")
        }
        self = timeout
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(seconds ?? -1)
    }
}
