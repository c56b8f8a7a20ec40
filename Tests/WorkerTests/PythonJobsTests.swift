import Bootstrap
import Foundation
import Jobs
import Logging
import PythonHost
import Testing

@testable import Worker

@Suite struct PythonJobsTests {
    @Test("The end of one attempt takes no folder from under the next one of its run")
    func scratch() async throws {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "dcm-python-jobs-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        var folders = ServiceFolders(settings: .environment())
        folders.modules = folder.appending(path: "modules")
        folders.data = folder.appending(path: "data")
        folders.logs = folder.appending(path: "logs")
        // An attempt that ends at once: folders are made and removed all the same.
        let configuration = PythonHostConfiguration(
            python: "/nonexistent/python3", hostPath: folder, root: folders.modules, environment: [:])
        let logger = Logger(label: "test")
        let jobs = PythonJobs(hosts: WarmHosts(configuration: configuration, logger: logger), folders: folders, killGrace: .seconds(1))
        let definition = JobDefinition(name: "job", service: "svc", stage: .services, entry: "svc.worker")
        let run = RunID(milliseconds: 7, random: (1, 2))
        let first = FakeRouter.order(JobID(run: run, index: 0), attempt: 1, definition: definition)
        let second = FakeRouter.order(JobID(run: run, index: 1), attempt: 1, definition: definition)

        let exit = await jobs.run(first) { _ in }
        #expect(exit.kind == .brokenService)
        #expect(!FileManager.default.fileExists(atPath: jobs.job(first).workdir.path))
        #expect(FileManager.default.fileExists(atPath: jobs.job(second).workdir.deletingLastPathComponent().path))
        #expect(jobs.job(first).workdir != jobs.job(second).workdir)
    }
}
