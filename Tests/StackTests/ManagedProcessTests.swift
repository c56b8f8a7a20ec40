import Foundation
import Glibc
import Testing

@testable import Stack

@Suite("Managed processes")
struct ManagedProcessTests {
    @Test("It has its environment, its log and a session of its own, and tells how it ended")
    func basics() async throws {
        try await withTemporaryFolder { folder in
            let process = try ManagedProcess(
                shell(
                    "echo \"$WORD\"; echo to stderr >&2; cat; [ -z \"$HOME\" ]; exit 7",
                    in: folder,
                    environment: ["WORD": "hello there"],
                )
            )
            #expect(getsid(process.pid) == process.pid || process.exit != nil)
            let exit = try await eventually("the script ends") { process.exit }
            #expect(exit == .status(7))
            #expect(LogTail.lastLines(of: process.command.logFile, count: 9) == ["hello there", "to stderr"])
        }
    }

    @Test("A program that does not exist is an error that names it")
    func missingProgram() async throws {
        try await withTemporaryFolder { folder in
            var command = shell("", name: "ghost", in: folder)
            command.executable = "/nowhere/ghost"
            let error = #expect(throws: StackError.self) { try ManagedProcess(command) }
            #expect(error?.code == .cannotStart)
            #expect(error?.message.contains("/nowhere/ghost") == true)
        }
    }

    @Test("One that ignores SIGTERM is killed after the grace period, its children with it")
    func terminate() async throws {
        try await withTemporaryFolder { folder in
            let child = folder.appendingPathComponent("child")
            let process = try ManagedProcess(
                shell(
                    "trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & echo $! >'\(child.path)'; while :; do sleep 0.05; done",
                    in: folder,
                )
            )
            let grandchild = try await eventually("the script wrote its child's id") {
                (try? String(contentsOf: child, encoding: .utf8)).flatMap { pid_t($0.trimmingCharacters(in: .newlines)) }
            }
            let start = ContinuousClock.now
            #expect(await process.terminate(grace: .milliseconds(300)) == .signal(SIGKILL))
            #expect(.now - start >= .milliseconds(300))
            _ = try await eventually("the grandchild is gone") { isAlive(grandchild) ? nil : true }
        }
    }

    @Test("When it has ended, what it left in its group is killed")
    func leftovers() async throws {
        try await withTemporaryFolder { folder in
            let process = try ManagedProcess(shell("(\(idle)) >'\(folder.path)/out' & echo $!; exit 4", in: folder))
            #expect(try await eventually("the script ends") { process.exit } == .status(4))
            let left = try #require(LogTail.lastLines(of: process.command.logFile, count: 1).first.flatMap { pid_t($0) })
            _ = try await eventually("its child is gone") { isAlive(left) ? nil : true }
        }
    }

    @Test("One that was reaped by somebody else is gone, and its id is not touched any more")
    func reapedElsewhere() async throws {
        try await withTemporaryFolder { folder in
            let process = try ManagedProcess(shell("(\(idle)) >'\(folder.path)/out' & echo $!; exit 4", in: folder))
            var status: Int32 = 0
            #expect(waitpid(process.pid, &status, 0) == process.pid)
            let left = try #require(LogTail.lastLines(of: process.command.logFile, count: 1).first.flatMap { pid_t($0) })
            defer { kill(left, SIGKILL) }
            #expect(process.exit == .status(-1))
            // A signal would have been delivered by the time that one comes back.
            #expect(kill(left, 0) == 0)
            #expect(isAlive(left))
        }
    }

    @Test("SIGTERM alone is enough for one that listens")
    func gentle() async throws {
        try await withTemporaryFolder { folder in
            let process = try ManagedProcess(shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done", in: folder))
            _ = try await eventually("it is up") { LogTail.lastLines(of: process.command.logFile, count: 1) == ["up"] ? true : nil }
            #expect(await process.terminate() == .status(3))
        }
    }

    @Test("The lifeline ends what a process leaves behind when it is gone")
    func lifeline() async throws {
        try await withTemporaryFolder { folder in
            let kept = try ManagedProcess(shell(idle, name: "kept", in: folder), detached: true)
            let forgotten = try ManagedProcess(shell(idle, name: "forgotten", in: folder), detached: true)
            let stubborn = try ManagedProcess(
                shell("trap '' TERM; echo up; while :; do sleep 0.05; done", name: "stubborn", in: folder),
                detached: true,
            )
            _ = try await eventually("the stubborn one is up") {
                LogTail.lastLines(of: stubborn.command.logFile, count: 1) == ["up"] ? true : nil
            }
            var lifeline: Lifeline? = Lifeline()
            for process in [kept, forgotten, stubborn] { lifeline?.watch(process.pid) }
            lifeline?.forget(forgotten.pid)
            // Its socket is closed, as it would be by the death of this process.
            lifeline = nil
            #expect(try await eventually("the kept one ends") { kept.exit } == .status(0))
            #expect(try await eventually("the stubborn one is killed") { stubborn.exit } == .signal(SIGKILL))
            #expect(forgotten.isRunning)
            await forgotten.kill()
        }
    }
}
