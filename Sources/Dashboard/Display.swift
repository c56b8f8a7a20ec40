import Foundation

/// How values look to people.
enum Display {
    /// `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. What is negative because clocks differ shows as zero.
    static func duration(_ seconds: Double) -> String {
        let seconds = max(0, seconds)
        if seconds < 0.0995 { return "\(Int((seconds * 1000).rounded())) ms" }
        if seconds < 9.95 {
            let tenths = Int((seconds * 10).rounded())
            return "\(tenths / 10).\(tenths % 10) s"
        }
        let whole = Int(min(seconds.rounded(), 1e12))
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(pad(whole % 60)) s" }
        if whole < 86400 { return "\(whole / 3600) h \(pad(whole / 60 % 60)) min" }
        return "\(whole / 86400) d \(whole / 3600 % 24) h"
    }

    /// `2.1 GB`: decimal, as disks are sold.
    static func bytes(_ bytes: Int64) -> String {
        var value = Double(max(0, bytes))
        for unit in ["B", "kB", "MB", "GB"] {
            if value < 999.5 { return (unit == "B" || value >= 99.5 ? "\(Int(value.rounded()))" : oneDecimal(value)) + " " + unit }
            value /= 1000
        }
        return oneDecimal(value) + " TB"
    }

    /// `12 345`, grouped so that long numbers can be read.
    static func number(_ number: Int) -> String {
        var digits = String(abs(number))
        var groups: [String] = []
        while digits.count > 3 {
            groups.insert(String(digits.suffix(3)), at: 0)
            digits.removeLast(3)
        }
        groups.insert(digits, at: 0)
        return (number < 0 ? "-" : "") + groups.joined(separator: "\u{202F}")
    }

    /// `12`, and `0.7`: below ten with a decimal, where there is one.
    static func few(_ value: Double) -> String { value < 9.95 && value > 0 ? oneDecimal(value) : number(Int(value.rounded())) }

    /// `1 job`, `12 jobs`.
    ///
    /// - Parameter many: the plural where it is not the word with an s.
    static func count(_ number: Int, _ one: String, _ many: String? = nil) -> String {
        "\(self.number(number)) \(number == 1 ? one : many ?? one + "s")"
    }

    /// Server time to the second; the browser makes it its own.
    static func time(_ date: Date) -> String {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .current
        let parts = calendar.dateComponents([.year, .month, .day, .hour, .minute, .second], from: date)
        return
            "\(parts.year ?? 0)-\(pad(parts.month ?? 0))-\(pad(parts.day ?? 0)) \(pad(parts.hour ?? 0)):\(pad(parts.minute ?? 0)):\(pad(parts.second ?? 0))"
    }

    /// An id as it fits into a table: Orthanc's are 44 characters long.
    static func short(_ id: String) -> String { id.count > 20 ? String(id.prefix(17)) + "…" : id }

    /// How the export, which has no service, is called and asked for.
    static let builtIn = "built-in"

    /// A job's service as people read it.
    static func service(_ name: String) -> String { name.isEmpty ? builtIn : name }

    /// The same the other way round.
    static func withoutService(_ text: String) -> String { text == builtIn ? "" : text }

    private static func pad(_ number: Int) -> String { number < 10 ? "0\(number)" : String(number) }

    private static func oneDecimal(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
