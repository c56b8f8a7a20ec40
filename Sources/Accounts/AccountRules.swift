/// What names and passwords may be.
package enum AccountRules {
    /// - Returns: what is wrong with `name`, as a sentence; nil when nothing is.
    package static func problem(name: String) -> String? {
        let isPlain = name.utf8.allSatisfy { byte in
            (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) || [0x2d, 0x2e, 0x40, 0x5f].contains(byte)
        }
        guard !name.isEmpty, name.utf8.count <= 64, isPlain else {
            return "A name is 1 to 64 characters of a-z, 0-9, dot, dash, underscore and @."
        }
        // The audit names those who have no name of their own so.
        guard !["api", "operator", "local", "cli", "monitor", "unknown"].contains(name) else {
            return "'\(name)' is a name of the monitor's own."
        }
        return nil
    }

    /// Length is what counts; rules about kinds of characters only make people write them down.
    package static func problem(password: String, of name: String) -> String? {
        if password.unicodeScalars.count < 10 { return "A password has at least 10 characters." }
        if password.utf8.count > 1024 { return "A password has at most 1024 bytes." }
        if password.lowercased().contains(name.lowercased()), name.count > 2 { return "A password does not contain the user's name." }
        if Set(password.unicodeScalars).count < 4 { return "A password has at least 4 different characters." }
        return nil
    }
}
