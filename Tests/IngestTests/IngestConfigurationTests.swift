import Bootstrap
import Configuration
import Foundation
import Jobs
import Orthanc
import Testing

@testable import Ingest

private func settings(_ values: [String: String]) -> Settings {
    Settings(reader: ConfigReader(provider: EnvironmentVariablesProvider(environmentVariables: values)))
}

struct IngestConfigurationTests {
    @Test func theDefaults() throws {
        let configuration = try IngestConfiguration(settings: settings([:]))
        #expect(configuration.levels == [.study] && configuration.start == .now && configuration.filter == IngestFilter())
        #expect(configuration.pollInterval == .seconds(1) && configuration.stableAge == 60)
        #expect(configuration.repeats == .changed && configuration.submitRate == 10)
        let servers = try OrthancServers(settings: settings([:])).endpoints
        #expect(servers.map(\.name) == ["orthanc"] && servers.map(\.url.absoluteString) == ["http://orthanc:8042"])
        #expect(servers[0].user == nil)
    }

    @Test func everyVariable() throws {
        let configuration = try IngestConfiguration(
            settings: settings([
                "EVENTS": "patient, series patient", "START": "ALL", "POLL_INTERVAL": "0.5", "SWEEP_INTERVAL": "60",
                "ORTHANC_STABLE_AGE": "1",
                "SUPPORTED_MODALITY": "CT,MR", "ACCEPTED_FILES": "primary,original", "JUNK_FILES": "dose info, mip",
                "INSTANCE_REQUIRED_TAGS": "InstanceNumber", "MINIMUM_INSTANCES": "3", "REPEAT": "Ignore", "SUBMIT_RATE": "0.5",
            ])
        )
        #expect(configuration.levels == [.patient, .series] && configuration.start == .all)
        #expect(configuration.repeats == .ignore && configuration.submitRate == 0.5)
        #expect(
            configuration.pollInterval == .milliseconds(500) && configuration.sweepInterval == .seconds(60) && configuration.stableAge == 1)
        #expect(
            configuration.filter
                == IngestFilter(
                    modalities: ["CT", "MR"], acceptedTypes: ["primary", "original"], junkTypes: ["dose info", "mip"],
                    requiredTags: ["InstanceNumber"], minimumInstances: 3)
        )
    }

    @Test(arguments: [
        ("EVENTS", "studies"), ("START", "later"), ("POLL_INTERVAL", "0"), ("MINIMUM_INSTANCES", "-1"), ("ORTHANC_STABLE_AGE", "x"),
        ("REPEAT", "never"), ("SUBMIT_RATE", "0"),
    ])
    func aBadValueNamesItsVariable(variable: String, value: String) {
        let error = #expect(throws: SettingError.self) { try IngestConfiguration(settings: settings([variable: value])) }
        #expect(error?.variable == variable && error?.value == value)
    }

    @Test func aBadAddressDoesNotShowItsPassword() {
        let error = #expect(throws: SettingError.self) {
            try OrthancServers(settings: settings(["ORTHANC_REST_URL": "ftp://u:hunter2@orthanc"]))
        }
        #expect(error?.variable == "ORTHANC_REST_URL" && "\(String(describing: error))".contains("hunter2") == false)
    }

    @Test func pausesGrowToTheirMaximum() {
        let backoff = IngestConfiguration.Backoff()
        #expect((1...7).map { backoff.pause(after: $0) } == [1, 2, 4, 8, 16, 30, 30].map { Duration.seconds($0) })
        #expect(backoff.pause(after: 1_000_000) == .seconds(30))
    }
}
