import Foundation

extension Double {
    /// "12.3", whatever the machine's language.
    func fraction(_ digits: Int) -> String {
        formatted(.number.precision(.fractionLength(digits)).locale(Locale(identifier: "en_US_POSIX")))
    }

    /// 0.85 as "85 %".
    var percent: String { "\((self * 100).fraction(0)) %" }
}
