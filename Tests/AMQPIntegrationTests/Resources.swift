import Foundation
import Glibc

/// What the kernel knows of this process.
enum Resources {
    struct Use: CustomStringConvertible {
        var descriptors: Int
        var threads: Int
        /// Resident, in bytes.
        var memory: Int

        static var now: Use {
            Use(descriptors: entries("fd").count, threads: entries("task").count, memory: residentMemory)
        }

        var description: String { "\(descriptors) descriptors, \(threads) threads, \(memory.mebibytes) resident" }
    }

    static var residentMemory: Int {
        let pages = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")[1]
        return pages.flatMap { Int($0) }.map { $0 * sysconf(Int32(_SC_PAGESIZE)) } ?? 0
    }

    static func threads(named name: String) -> Int {
        entries("task").count { entry in
            (try? String(contentsOfFile: "/proc/self/task/\(entry)/comm", encoding: .utf8))?.contains(name) == true
        }
    }

    static func sockets(to port: UInt16) -> Int {
        entries("fd").compactMap { Int32($0) }.count { descriptor in
            var peer = sockaddr_in()
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let connected = withUnsafeMutablePointer(to: &peer) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) == 0 }
            }
            return connected && peer.sin_family == sa_family_t(AF_INET) && UInt16(bigEndian: peer.sin_port) == port
        }
    }

    private static func entries(_ folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/\(folder)")) ?? []
    }
}

extension Int {
    /// For people: `12.3 MiB`.
    var mebibytes: String {
        let tenths = self * 10 / (1 << 20)
        return "\(tenths < 0 ? "-" : "")\(abs(tenths) / 10).\(abs(tenths) % 10) MiB"
    }
}
