import Foundation

/// What a service may be called: the name is a folder in two trees, and the first part of dotted names in Python.
package enum ServiceName {
    /// Names that mean something else in a registry or in a run.
    private static let reserved: Set<String> = ["export", "pipeline", "dcm_processor", "tests"]

    /// - Throws: ``StackError`` `.badSetting` that says what is allowed.
    package static func check(_ name: String) throws {
        let first = name.unicodeScalars.first.map { isLetterOrDigit($0) || $0 == "_" } ?? false
        guard first, name.utf8.count <= 64, name.unicodeScalars.allSatisfy({ isLetterOrDigit($0) || $0 == "_" || $0 == "-" }) else {
            throw StackError(
                .badSetting,
                "'\(name)' cannot be the name of a service: it takes 1 to 64 letters (a-z, A-Z), digits, '_' and '-', and begins with no '-'.",
            )
        }
        guard !reserved.contains(name), !name.hasPrefix("__") else {
            throw StackError(
                .badSetting, "'\(name)' cannot be the name of a service: it is taken by DCM Processor itself. Choose another one.")
        }
    }

    private static func isLetterOrDigit(_ scalar: Unicode.Scalar) -> Bool {
        ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
    }
}
