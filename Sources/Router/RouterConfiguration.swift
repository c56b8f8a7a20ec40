import Bootstrap
import Foundation

/// What an operator sets of the router.
struct RouterConfiguration: Sendable {
    /// How long a job waits for a worker before it moves up one level of priority; nil when it never does. `AGEING`, seconds.
    var ageing: Double? = 600
    /// How often an event is tried that cannot be planned. `PLAN_ATTEMPTS`.
    var planAttempts = 30
    /// How long what has ended is kept; nil for ever. `RETENTION`, days.
    var retention: TimeInterval? = 90 * Self.day
    /// Where runs left files.
    var data = URL(filePath: "/data")
    var logs = URL(filePath: "/logs")
    var rhythm = Rhythm()

    /// How often the router looks for what no message tells. Fixed; tests are in more of a hurry.
    struct Rhythm: Sendable {
        var sweep = Pace.scaled(.seconds(15))
        var echo = Pace.scaled(.seconds(3))
        var planning = Pace.scaled(.seconds(5))
        /// After the first attempt to plan an event that failed, in seconds; then twice as long each time.
        var planningPause = Pace.scaled(5)
        var longestPlanningPause = Pace.scaled(600)
        var hints = HintProbe.Timing()
    }

    func planningPause(after attempts: Int) -> TimeInterval {
        min(rhythm.longestPlanningPause, rhythm.planningPause * pow(2, Double(max(0, attempts - 1))))
    }

    static let day: TimeInterval = 86400

    init() {}

    init(settings: Settings, folders: ServiceFolders) throws {
        let ageing = try settings.seconds("AGEING", default: 600, in: 0...604_800)
        self.ageing = ageing > 0 ? ageing : nil
        planAttempts = try settings.integer("PLAN_ATTEMPTS", default: 30, in: 1...100)
        let days = try settings.seconds("RETENTION", default: 90, in: 0...36500)
        retention = days > 0 ? days * Self.day : nil
        data = folders.data
        logs = folders.logs
    }
}
