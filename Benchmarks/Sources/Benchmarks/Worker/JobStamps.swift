import Foundation

/// What the jobs themselves wrote: which one ran, and from when to when by the machine's monotonic clock.
struct JobStamps: Sendable {
    struct Stamp: Sendable {
        var study: String
        var job: String
        /// Seconds.
        var began: Double
        var ended: Double
    }

    /// Whose ends each job of the graph waits for.
    static let parents: [String: [String]] = [
        "A": ["pre"], "B": ["pre"], "C": ["A", "B"], "store": ["pre", "A", "B", "C"], "clean": ["store"],
    ]
    static let jobsPerStudy = parents.count + 1

    let file: URL

    var count: Int { (try? Data(contentsOf: file))?.count { $0 == UInt8(ascii: "\n") } ?? 0 }

    /// - Parameter skipped: how many stamps were there before.
    func stamps(after skipped: Int) -> [Stamp] {
        let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").dropFirst(skipped).compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count == 4, let began = Double(fields[2]), let ended = Double(fields[3]) else { return nil }
            return Stamp(study: String(fields[0]), job: String(fields[1]), began: began / 1e9, ended: ended / 1e9)
        }
    }
}

extension [JobStamps.Stamp] {
    /// Seconds from the first beginning to the last end.
    var span: Double { (map(\.ended).max() ?? .nan) - (map(\.began).min() ?? .nan) }

    /// Seconds from the end of a job's last parent to its own beginning; jobs without parents have none.
    var gaps: [Double] {
        let studies = Dictionary(grouping: self, by: \.study)
        return flatMap { stamp -> [Double] in
            guard let parents = JobStamps.parents[stamp.job], let study = studies[stamp.study] else { return [] }
            let ends = study.filter { parents.contains($0.job) }.map(\.ended)
            return ends.count == parents.count ? [stamp.began - (ends.max() ?? .nan)] : []
        }
    }
}
