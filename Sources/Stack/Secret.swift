/// Generated passwords, tokens and cookies.
package enum Secret {
    private static let letters = Array("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789")

    /// Letters and digits only: safe in URLs, shells, JSON and configuration files without quoting.
    package static func generate(length: Int = 32) -> String {
        var generator = SystemRandomNumberGenerator()
        return String((0..<length).map { _ in letters.randomElement(using: &generator)! })
    }
}
