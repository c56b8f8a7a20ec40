import Foundation

/// A test can be in a hurry: `DCM_PACE=0.1` makes leases, sweeps and other fixed times of the router and the worker ten times shorter.
/// They all shrink alike, so that what holds between them goes on to hold. Not for production: a lease of 3 s ends in any hiccup.
package enum Pace {
    /// 0.01...1, and 1 unless a test says otherwise.
    package static let factor = factor(ProcessInfo.processInfo.environment["DCM_PACE"])

    static func factor(_ text: String?) -> Double {
        guard let text, let value = Double(text), value > 0 else { return 1 }
        return min(1, max(0.01, value))
    }

    package static func scaled(_ duration: Duration) -> Duration { duration * factor }
    package static func scaled(_ seconds: Double) -> Double { seconds * factor }
}
