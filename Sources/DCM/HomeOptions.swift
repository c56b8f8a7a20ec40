import ArgumentParser
import Foundation
import Stack

/// Which stack is meant.
struct HomeOptions: ParsableArguments {
    @Option(name: .customLong("home"), help: ArgumentHelp("The folder of the stack (default: .dcm in the checkout).", valueName: "DIR"))
    var path: String?

    var home: StackHome {
        StackHome(path: path ?? Checkout.folder?.appendingPathComponent(".dcm").path ?? ".dcm")
    }

    /// How the folder is named in advice: nothing for the default one.
    var suffix: String { path.map { " --home \($0)" } ?? "" }
}

/// The source tree that this program belongs to.
enum Checkout {
    /// From DCM_CHECKOUT, which ./dcm sets; else the nearest folder above this program with a registry and a package.
    static let folder: URL? = {
        if let path = ProcessInfo.processInfo.environment["DCM_CHECKOUT"], !path.isEmpty { return URL(fileURLWithPath: path) }
        var folder = executables
        while folder.path != "/" {
            folder.deleteLastPathComponent()
            if ["Package.swift", "registry"].allSatisfy({ FileSystem.exists(folder.appendingPathComponent($0)) }) { return folder }
        }
        return nil
    }()

    /// The folder of this program, where the services are too.
    static let executables: URL = program.deletingLastPathComponent()

    static let program: URL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
}
