import Foundation

/// What this machine, or the container around us, has and has left.
struct Machine: Sendable {
    /// Over 1, 5 and 15 minutes.
    var load: [Double]
    /// Bytes; nil when nobody says.
    var memory: Int64?
    var freeMemory: Int64?

    /// Reads a few small files of the kernel.
    static func now() -> Machine {
        let numbers = meminfo()
        var machine = Machine(load: loads(), memory: numbers["MemTotal"], freeMemory: numbers["MemAvailable"])
        let group = controlGroup()
        if let limit = group.limit, limit < machine.memory ?? .max {
            machine.memory = limit
            let left = group.used.map { max(0, limit - $0) }
            machine.freeMemory = [machine.freeMemory, left].compactMap(\.self).min()
        }
        return machine
    }

    private static func loads() -> [Double] {
        var loads = [Double](repeating: 0, count: 3)
        let count = getloadavg(&loads, 3)
        return count > 0 ? Array(loads.prefix(Int(count))) : []
    }

    private static func meminfo() -> [String: Int64] {
        var numbers: [String: Int64] = [:]
        for line in text("/proc/meminfo").split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == ":" })
            if words.count >= 2, let kilobytes = Int64(words[1]) { numbers[String(words[0])] = kilobytes << 10 }
        }
        return numbers
    }

    /// The narrowest limit from our own group up to the root (version 2), or the container's (version 1).
    private static func controlGroup() -> (limit: Int64?, used: Int64?) {
        let root = "/sys/fs/cgroup"
        var place = text("/proc/self/cgroup").split(separator: "\n").first { $0.hasPrefix("0::") }.map { String($0.dropFirst(3)) } ?? "/"
        var narrowest: (limit: Int64, folder: String)?
        while true {
            let folder = root + (place == "/" ? "" : place)
            if let limit = number("\(folder)/memory.max"), limit < narrowest?.limit ?? .max { narrowest = (limit, folder) }
            if place == "/" || place.isEmpty { break }
            place = (place as NSString).deletingLastPathComponent
        }
        if let narrowest { return (narrowest.limit, number("\(narrowest.folder)/memory.current")) }
        return (number("\(root)/memory/memory.limit_in_bytes"), number("\(root)/memory/memory.usage_in_bytes"))
    }

    private static func number(_ path: String) -> Int64? { Int64(text(path).trimmingCharacters(in: .whitespacesAndNewlines)) }

    private static func text(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }
}
