import Foundation
import Glibc

/// What processes have used so far.
enum ProcessUsage {
    /// Of this process: user and system.
    static var processorSeconds: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
    }

    /// What /proc says of a process.
    struct Status {
        var parent: pid_t
        /// Seconds, user and system, in steps of a clock tick (10 ms).
        var own: Double
        /// Of its children that have ended and were waited for, and of theirs.
        var reaped: Double
    }

    /// Nil when there is no such process.
    static func status(of pid: pid_t) -> Status? {
        guard let line = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let name = line.lastIndex(of: ")")
        else { return nil }
        // The fields after the name start with the third: state, parent; utime, stime, cutime and cstime are the 14th to the 17th.
        let fields = line[line.index(after: name)...].split(separator: " ")
        guard fields.count > 14, let parent = pid_t(fields[1]) else { return nil }
        let seconds = fields[11...14].map { (Double($0) ?? 0) / Double(sysconf(Int32(_SC_CLK_TCK))) }
        return Status(parent: parent, own: seconds[0] + seconds[1], reaped: seconds[2] + seconds[3])
    }

    /// Of another process; nil when there is none.
    static func processorSeconds(of pid: pid_t) -> Double? { status(of: pid)?.own }

    /// Resident memory of this process in MiB.
    static var residentMebibytes: Double {
        let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
        guard fields.count > 1, let pages = Double(fields[1]) else { return .nan }
        return pages * Double(getpagesize()) / 1_048_576
    }

    /// Resident memory of a process in MiB, now and at its highest.
    struct Memory {
        var resident: Double
        var peak: Double
    }

    /// MiB of another process, each page divided among those who share it: what forked processes and programs with the same libraries have
    /// in common counts once. Nil when there is none.
    static func proportionalMebibytes(of pid: pid_t) -> Double? {
        let lines = (try? String(contentsOfFile: "/proc/\(pid)/smaps_rollup", encoding: .utf8))?.split(separator: "\n") ?? []
        return lines.first { $0.hasPrefix("Pss:") }?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) }
            .map { $0 / 1024 }
    }

    /// Of another process; nil when there is none.
    static func memory(of pid: pid_t) -> Memory? {
        guard let lines = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8).split(separator: "\n") else { return nil }
        func mebibytes(_ name: String) -> Double? {
            lines.first { $0.hasPrefix("\(name):") }?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) }
                .map { $0 / 1024 }
        }
        guard let resident = mebibytes("VmRSS"), let peak = mebibytes("VmHWM") else { return nil }
        return Memory(resident: resident, peak: peak)
    }
}
