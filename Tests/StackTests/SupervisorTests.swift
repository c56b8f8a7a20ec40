import Foundation
import Glibc
import Synchronization
import Testing

@testable import Stack

@Suite("Supervisor", .timeLimit(.minutes(2)))
struct SupervisorTests {
    private let quick = Supervisor.Backoff(first: .milliseconds(20), last: .milliseconds(80))

    @Test("A child that is killed comes back with another process")
    func restart() async throws {
        try await withTemporaryFolder { folder in
            let supervisor = Supervisor(backoff: quick, logger: quiet)
            await supervisor.add(ChildSpec(name: "child") { shell(idle, in: folder) })
            let first = try await eventually("the first start") { await supervisor.reports.first { $0.state == .ready }?.pid }
            kill(first, SIGKILL)
            let second = try await eventually("the second start") {
                await supervisor.reports.first { $0.state == .ready && $0.pid != first }
            }
            #expect(second.starts == 2)
            await supervisor.remove(["child"])
            #expect(await supervisor.reports.isEmpty)
            #expect(!isAlive(try #require(second.pid)))
        }
    }

    @Test("One that keeps dying is restarted after growing pauses, and says why")
    func dying() async throws {
        try await withTemporaryFolder { folder in
            let starts = Mutex<[ContinuousClock.Instant]>([])
            let supervisor = Supervisor(backoff: quick, logger: quiet)
            await supervisor.add(
                ChildSpec(name: "child") {
                    starts.withLock { $0.append(.now) }
                    return shell("echo attempt no $$ fails; exit 4", in: folder)
                }
            )
            let report = try await eventually("five failures") {
                await supervisor.reports.first { $0.failures >= 5 && $0.state == .backingOff }
            }
            await supervisor.remove(["child"])
            #expect(report.problem?.contains("child ended (exit status 4)") == true)
            #expect(report.problem?.contains("fails") == true)
            // Only the last life's lines: an earlier problem would mislead.
            #expect(report.problem?.components(separatedBy: "attempt no").count == 2)
            let times = starts.withLock { $0 }
            let pauses = zip(times.dropFirst(), times).map { $0 - $1 }
            #expect(pauses[2] >= .milliseconds(80))
            #expect(pauses.allSatisfy { $0 >= .milliseconds(20) })
        }
    }

    @Test("A wrong setting (status 78) counts as a failed start at once")
    func wrongSetting() async throws {
        try await withTemporaryFolder { folder in
            let supervisor = Supervisor(backoff: Supervisor.Backoff(first: .seconds(60), last: .seconds(60)), logger: quiet)
            await supervisor.add(ChildSpec(name: "child") { shell("exit 78", in: folder) })
            _ = try await eventually("it counts as three failures") { await supervisor.reports.first { $0.failures >= 3 } }
            await supervisor.remove(["child"])
        }
    }

    @Test("A child waits for those it comes after to have been ready once")
    func order() async throws {
        try await withTemporaryFolder { folder in
            let open = Mutex(false)
            let supervisor = Supervisor(backoff: quick, logger: quiet)
            await supervisor.add(
                ChildSpec(
                    name: "first",
                    command: { shell(idle, name: "first", in: folder) },
                    readiness: { _ in
                        open.withLock { $0 } ? .ready : .notYet
                    },
                )
            )
            await supervisor.add(ChildSpec(name: "second", after: ["first"]) { shell(idle, name: "second", in: folder) })
            _ = try await eventually("the first one runs") { await supervisor.reports.first { $0.state == .starting } }
            #expect(await supervisor.reports.last?.state == .waiting)
            #expect(await supervisor.reports.last?.starts == 0)
            open.withLock { $0 = true }
            _ = try await eventually("the second one runs") { await supervisor.reports.last?.state == .ready ? true : nil }
            await supervisor.remove(["second", "first"])
        }
    }

    @Test("One that is not ready in time is called unresponsive, and ready when it is")
    func late() async throws {
        try await withTemporaryFolder { folder in
            let open = Mutex(false)
            let supervisor = Supervisor(backoff: quick, logger: quiet)
            await supervisor.add(
                ChildSpec(
                    name: "slow",
                    startLimit: .milliseconds(100),
                    staysWatched: true,
                    command: { shell(idle, in: folder) },
                    readiness: { _ in
                        open.withLock { $0 } ? .ready : .notYet
                    },
                )
            )
            let report = try await eventually("it is late") {
                await supervisor.reports.first { $0.state == .unresponsive && $0.problem != nil }
            }
            #expect(report.problem?.hasPrefix("slow was not ready after") == true)
            open.withLock { $0 = true }
            let ready = try await eventually("it is ready") { await supervisor.reports.first { $0.state == .ready } }
            #expect(ready.problem == nil)
            #expect(ready.pid == report.pid)
            open.withLock { $0 = false }
            _ = try await eventually("its silence is noticed") { await supervisor.reports.first { $0.state == .unresponsive } }
            await supervisor.remove(["slow"])
        }
    }
}
