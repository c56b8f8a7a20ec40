import ArgumentParser
import Foundation
import Stack

struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Starts a stack, sends two sample patients by DICOM and follows their jobs.",
        discussion: """
            A new stack gets all bundled services unless SERVICES says otherwise: the images are de-identified, converted, shown, the
            pictures stored in Orthanc, and DATA is cleaned. The first run of a stack fetches Python packages for them.
            Orthanc's StableAge is 3 seconds here unless set otherwise. Each demo sends the images with fresh UIDs: Orthanc
            takes a repeated instance without any event, so an exact resend would show nothing.
            """,
    )

    @OptionGroup var options: StackOptions

    @Option(help: ArgumentHelp("Give up on unfinished jobs after so long.", valueName: "seconds"))
    var timeout = 900

    func run() async throws {
        let clock = ContinuousClock()
        let began = clock.now
        let endpoints = try await options.start(defaults: Self.defaults)
        say(endpoints.summary(home: options.home) + "\n")
        let started = clock.now
        let sample = try await SampleStudies.write(for: options.home)
        for patient in sample.patients {
            let sending = clock.now
            try await sample.send(patient, to: endpoints)
            say("Sent \(patient.label): \(patient.instances) images, \(patient.studies.count) studies in \(seconds(clock.now - sending))")
        }
        let sent = clock.now
        let follower = RunFollower(endpoints: endpoints, sample: sample, started: sent)
        let runs = try await follower.follow(for: .seconds(timeout))
        say("\n\(RunFollower.table(runs, sample: sample))\n")
        say(try await DerivedObjects.read(from: endpoints, sample: sample).description + "\n")
        say(LeftFiles.read(in: endpoints.data, runs: runs.map(\.id)).description + "\n")
        let environment = ProcessInfo.processInfo.environment
        let times = [
            ("install", environment["DCM_INSTALL_SECONDS"].map { "\($0) s" }),
            ("build", environment["DCM_BUILD_SECONDS"].map { "\($0) s" }),
            ("start", seconds(started - began)),
            ("send", seconds(sent - started)),
            ("run", seconds(clock.now - sent)),
        ]
        say("Time: " + times.compactMap { name, time in time.map { "\(name) \($0)" } }.joined(separator: ", "))
        say("Look at it: \(endpoints.signIn())   (\(Endpoints.tokenHint(options.home)))")
        say("The stack goes on running; './dcm down\(options.location.suffix)' stops it.")
        let troubled = runs.filter { !["succeeded", "declined"].contains($0.state) }
        for run in troubled { say("Run \(run.id) is \(run.state)\(run.reason.map { ": \($0.text)" } ?? ".")") }
        if let advice = Self.advice(on: troubled) { say(advice) }
        if !troubled.isEmpty { throw ExitCode.failure }
    }

    /// pip tries for minutes otherwise when nobody answers, and a demo should say so instead.
    private static let defaults = ["ORTHANC_STABLE_AGE": "3", "SERVICES": "all", "PIP_RETRIES": "1", "PIP_TIMEOUT": "10"]

    /// What to do when packages of a service could not be fetched.
    private static func advice(on runs: [MonitorAPI.Run]) -> String? {
        let failures = runs.flatMap { $0.jobs ?? [] }.compactMap(\.error).filter(\.isEnvironment)
        guard let failure = failures.first else { return nil }
        let lines = failure.traceback?.split(separator: "\n") ?? []
        let line = (lines.last { $0.contains("ERROR") } ?? lines.last).map { " The log says: \($0)" } ?? ""
        return """
            Python packages of a service could not be installed.\(line)
            If this machine cannot reach PyPI: set PIP_INDEX_URL to an index that it can reach, or PIP_FIND_LINKS to a folder with the
            packages, start the stack again ('./dcm down', './dcm up') and reprocess the runs in the monitor. For a demo without packages from
            elsewhere: SERVICES=\(BundledServices.standard) ./dcm demo --home DIR, with a new folder.
            """
    }
}

/// `12.3 s`
func seconds(_ duration: Duration) -> String {
    String(format: "%.1f s", Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18)
}
