import Configuration
import Foundation
import Logging
import Testing

@testable import Bootstrap

@Suite struct SettingsTests {
    func settings(_ variables: [String: String]) -> Settings {
        Settings(reader: ConfigReader(provider: EnvironmentVariablesProvider(environmentVariables: variables)))
    }

    @Test func upstreamsSpellingComesFirstAndOursIsUnderstood() {
        #expect(settings(["DEFAULT_PRIORITY": "low"]).text("DEFUALT_PRIORITY", "DEFAULT_PRIORITY") == "low")
        #expect(settings(["DEFUALT_PRIORITY": "high", "DEFAULT_PRIORITY": "low"]).text("DEFUALT_PRIORITY", "DEFAULT_PRIORITY") == "high")
    }

    @Test func anEmptyVariableIsNotSet() throws {
        #expect(settings(["EVENTS": ""]).text("EVENTS") == nil)
        #expect(try settings(["WORKER_SLOTS": ""]).integer("WORKER_SLOTS", default: 1, in: 1...8) == 1)
    }

    @Test(arguments: ["0", "9", "two", "1.5", " 2"])
    func aBadNumberNamesTheVariableTheValueAndWhatIsAllowed(value: String) {
        let error = #expect(throws: SettingError.self) {
            try settings(["WORKER_SLOTS": value]).integer("WORKER_SLOTS", default: 1, in: 1...8)
        }
        #expect(error?.description == "WORKER_SLOTS='\(value)' is not allowed: it takes a whole number from 1 to 8.")
    }

    @Test func listsTakeSpacesAndCommas() {
        #expect(settings(["WORKER_CHANNELS": "a, b  c,"]).list("WORKER_CHANNELS", default: []) == ["a", "b", "c"])
        #expect(settings([:]).list("WORKER_CHANNELS", default: ["default"]) == ["default"])
    }

    @Test func flags() throws {
        #expect(try settings(["A": "Yes"]).flag("A", default: false))
        #expect(try !settings(["A": "0"]).flag("A", default: true))
        #expect(throws: SettingError.self) { try settings(["A": "maybe"]).flag("A", default: true) }
    }

    @Test func foldersAreUpstreamsPlacesInAContainer() {
        let folders = ServiceFolders(settings: settings(["DATA": "/srv/images/../data"]))
        #expect(folders.data.path == "/srv/data")
        #expect(folders.registry.path == "/registry")
        #expect(folders.settings.path == "/registry/settings.json")
    }

    @Test func aBrokerAddressThatIsNoneDoesNotShowItsPassword() {
        let context = ServiceContext(
            name: "router", settings: settings(["AMQP_URL": "http://user:geheim@host"]), logger: .init(label: "test"))
        let error = #expect(throws: SettingError.self) { try context.broker() }
        #expect(error?.description.contains("AMQP_URL") == true)
        #expect(error?.description.contains("geheim") == false)
    }
}
