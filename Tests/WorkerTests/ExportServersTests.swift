import Bootstrap
import Configuration
import Foundation
import Jobs
import Logging
import Orthanc
import Pipeline
import Testing

@testable import Worker

@Suite struct ExportServersTests {
    private func settings(_ values: [String: String]) -> Settings {
        Settings(reader: ConfigReader(provider: EnvironmentVariablesProvider(environmentVariables: values)))
    }

    @Test("An export asks the server that its event names")
    func severalServers() throws {
        let servers = try ExportServers(
            settings(["ORTHANC_URLS": "ct=http://a:b@orthanc-ct:8042,mr=http://orthanc-mr:8042", "EXPORT_CONNECTIONS": "4"]))
        #expect(try servers.client("mr").endpoint.url.host == "orthanc-mr")
        #expect(try servers.client("ct").parallelism == 4)
        let error = #expect(throws: UnknownServer.self) { try servers.client("us") }
        let text = "\(try #require(error))"
        #expect(text.contains("'us'") && text.contains("ct, mr"))
    }

    @Test("One server is called orthanc")
    func oneServer() throws {
        let servers = try ExportServers(settings(["ORTHANC_REST_URL": "http://here:8042"]))
        #expect(try servers.client("orthanc").endpoint.url.host == "here")
        #expect(try servers.client("orthanc").parallelism == 8)
    }

    @Test("A job learns of the server that its images came from, and nothing of another one")
    func environmentOfJobs() throws {
        let urls = "ct=http://a:b%40c@orthanc-ct:8042/rest,mr=http://orthanc-mr:8042"
        let servers = try ExportServers(settings(["ORTHANC_URLS": urls]))
        #expect(
            servers.environment("ct") == [
                "ORTHANC_SERVER": "ct", "ORTHANC_REST_URL": "http://orthanc-ct:8042/rest", "ORTHANC_REST_USERNAME": "a",
                "ORTHANC_REST_PASSWORD": "b@c",
            ])
        // Empty, not absent: what the worker has in its own environment is another server's.
        #expect(
            servers.environment("mr") == [
                "ORTHANC_SERVER": "mr", "ORTHANC_REST_URL": "http://orthanc-mr:8042", "ORTHANC_REST_USERNAME": "",
                "ORTHANC_REST_PASSWORD": "",
            ])
        #expect(servers.environment("us")["ORTHANC_REST_URL"]?.isEmpty == true)
    }

    @Test(
        "What cannot be used is told with the variable",
        arguments: [
            ("ORTHANC_URLS", "nonsense"), ("ORTHANC_REST_URL", "ftp://x"), ("EXPORT_CONNECTIONS", "0"), ("EXPORT_CONNECTIONS", "33"),
        ])
    func refusals(variable: String, value: String) throws {
        let error = #expect(throws: SettingError.self) { try ExportServers(settings([variable: value])) }
        #expect(error?.variable == variable)
    }

    @Test func theReserveIsASetting() throws {
        #expect(try InstanceExport.Configuration(settings([:])).reserve == 256 << 20)
        #expect(try InstanceExport.Configuration(settings(["EXPORT_RESERVE": "2G"])).reserve == 2 << 30)
        let error = #expect(throws: SettingError.self) { try InstanceExport.Configuration(settings(["EXPORT_RESERVE": "much"])) }
        #expect(error?.variable == "EXPORT_RESERVE")
    }

    @Test("An export from a server that this worker does not know is left to others, and says so")
    func unknownServer() async throws {
        let job = ExportJob(
            servers: try ExportServers(settings([:])), configuration: InstanceExport.Configuration(),
            data: FileManager.default.temporaryDirectory, logger: Logger(label: "test"))
        let id = JobID(run: RunID(milliseconds: 1, random: (1, 1)), index: 0)
        let definition = JobDefinition(name: "export", service: "", stage: .export, kind: .export, entry: "")
        var order = FakeRouter.order(id, attempt: 1, definition: definition)
        order.source.server = "us"
        let exit = await job.run(order, isStillMine: { true }, onProgress: { _ in })
        #expect(exit.outcome == .failed && exit.isRetriable && exit.failure?.type == "UnknownServer")
        #expect(exit.failure?.message.contains("ORTHANC_URLS") == true)
    }
}
