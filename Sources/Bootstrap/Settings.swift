package import Configuration
package import Foundation

/// The settings of a service, read from environment variables. docs/configuration.md lists them all.
///
/// A variable that is empty counts as not set: compose files pass `NAME=` for what nobody filled in.
package struct Settings: Sendable {
    private let reader: ConfigReader

    package init(reader: ConfigReader) { self.reader = reader }

    package static func environment() -> Settings {
        Settings(reader: ConfigReader(provider: EnvironmentVariablesProvider()))
    }

    /// The text of the first variable of `names` that is set; more than one name for those that upstream spells its own way.
    package func text(_ names: String..., isSecret: Bool = false) -> String? {
        for name in names {
            let key = ConfigKey(name.lowercased().split(separator: "_").map(String.init))
            if let value = reader.string(forKey: key, isSecret: isSecret), !value.isEmpty { return value }
        }
        return nil
    }

    package func required(_ name: String, meaning: String, isSecret: Bool = false) throws(SettingError) -> String {
        guard let value = text(name, isSecret: isSecret) else {
            throw SettingError(variable: name, value: nil, allowed: meaning)
        }
        return value
    }

    package func integer(_ name: String, default standard: Int, in range: ClosedRange<Int>) throws(SettingError) -> Int {
        guard let value = text(name) else { return standard }
        guard let number = Int(value), range.contains(number) else {
            throw SettingError(variable: name, value: value, allowed: "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Seconds, fractions allowed.
    package func seconds(_ name: String, default standard: Double, in range: ClosedRange<Double>) throws(SettingError) -> Double {
        guard let value = text(name) else { return standard }
        guard let number = Double(value), range.contains(number) else {
            throw SettingError(variable: name, value: value, allowed: "seconds from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    package func flag(_ name: String, default standard: Bool) throws(SettingError) -> Bool {
        guard let value = text(name) else { return standard }
        switch value.lowercased() {
        case "1", "true", "yes", "on": return true
        case "0", "false", "no", "off": return false
        default: throw SettingError(variable: name, value: value, allowed: "1, true, yes, on, or 0, false, no, off")
        }
    }

    /// Words separated by spaces or commas.
    package func list(_ names: String..., default standard: [String]) -> [String] {
        for name in names {
            if let value = text(name) { return value.split(whereSeparator: { $0 == "," || $0.isWhitespace }).map(String.init) }
        }
        return standard
    }

    package func folder(_ name: String, default standard: String) -> URL {
        URL(filePath: text(name) ?? standard, directoryHint: .isDirectory).standardizedFileURL
    }
}

/// A variable that is missing or holds something that is not allowed. The service stops with this message.
package struct SettingError: Error, CustomStringConvertible {
    package var variable: String
    /// nil when the variable is not set, or when it holds a secret.
    package var value: String?
    package var allowed: String

    package init(variable: String, value: String?, allowed: String) {
        self.variable = variable
        self.value = value
        self.allowed = allowed
    }

    package var description: String {
        if let value {
            "\(variable)='\(value)' is not allowed: it takes \(allowed)."
        } else {
            "\(variable) is not set or not usable: it takes \(allowed)."
        }
    }
}
