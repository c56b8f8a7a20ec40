import Foundation
import Jobs
import Logging
import PythonHost
import Testing

@Suite(.timeLimit(.minutes(1)))
struct CheckpointTests {
    @Test("An attempt that dies hands its checkpoint to the next one, and reads none with a higher token")
    func resume() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": """
            import os
            from dcm_processor import checkpoint, resume

            def worker(attempt, params, **_):
                found = resume()
                checkpoint({"attempt": attempt, "before": found, "a set": {1, 2}})
                if attempt < 3:
                    os._exit(7)
                return [found["attempt"], found["before"]["attempt"] if found["before"] else None, sorted(found["a set"])]
            """
        ])
        let hosts = WarmHosts(configuration: tree.configuration(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let folder = tree.data.appending(path: ".checkpoints/run.0")
        var exits: [JobExit] = []
        // As if the second one had lost the job, and written its checkpoint late, under a number that the third one must not look at.
        for (attempt, token) in [(1, 4), (2, 9), (3, 8)] {
            var job = tree.job("svc.worker", attempt: attempt)
            job.checkpoint = folder.appending(path: "\(token)")
            exits.append(await hosts.run(job, onProgress: { _, _ in }))
        }
        await hosts.shutdown()
        #expect(exits.map(\.kind) == [.noResult, .noResult, .completed])
        #expect(exits.map(\.exitCode) == [7, 7, 0])
        #expect(exits[2].result == [1, .null, [1, 2]])
        #expect(try Set(FileManager.default.contentsOfDirectory(atPath: folder.path)) == ["4", "8", "9"])
    }

    @Test("A job that asks whether it shall stop ends by itself, within the grace, and has not succeeded")
    func stop() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": """
            import pathlib, time
            from dcm_processor import cancelled

            def worker(params, **_):
                cancelled()
                pathlib.Path(params).touch()
                while not cancelled():
                    time.sleep(0.01)
                pathlib.Path(params + ".tidy").touch()
                return "not done"
            """
        ])
        let hosts = WarmHosts(configuration: tree.configuration(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let mark = tree.data.appending(path: "mark")
        let job = tree.job("svc.worker", params: .string(mark.path), grace: .seconds(30))
        let running = Task { await hosts.run(job, onProgress: { _, _ in }) }
        #expect(try await eventually { FileManager.default.fileExists(atPath: mark.path) })
        running.cancel()
        let exit = await running.value
        await hosts.shutdown()
        #expect(exit.kind == .cancelled)
        #expect(exit.result == nil)
        #expect(FileManager.default.fileExists(atPath: mark.path + ".tidy"))
    }
}
