import CLinux
import Foundation
import Glibc

/// Puts a service in the place of what is there, or takes it away: each of the two folders in one step of the file system.
///
/// Readers hold no lock and see, in each tree, the whole old folder or the whole new one. Code comes before settings and goes after them, so that
/// whoever has read the settings finds code for them.
package struct FolderSwap: Sendable {
    /// Where a test may stop the world.
    package enum Step: String, Sendable, CaseIterable {
        case staged, moduleInPlace, registryInPlace, moduleAway, cleaned
    }

    let trees: ServiceTrees
    let name: String
    /// Called after each step. An error that is no ``StackError`` is taken for the end of this process: nothing is undone.
    let reached: @Sendable (Step) throws -> Void

    private var newRegistry: URL { trees.staged(name, in: trees.registry) }
    private var newModule: URL { trees.staged(name, in: trees.modules) }

    /// What a killed command has left.
    func removeLeftovers() throws {
        try FolderCopy.remove(newRegistry)
        try FolderCopy.remove(newModule)
    }

    /// Copies the package beside the place where it will stand, and waits until all of it is on the disk.
    func stage(_ package: ServicePackage, record: InstallationRecord) throws {
        do {
            for (source, target) in [(package.registry, newRegistry), (package.module, newModule)] {
                guard let source else { continue }
                try FolderCopy.copy(FolderListing(of: source), from: source, to: target)
                try record.write(in: target)
                try FolderCopy.sync(target.path)
            }
        } catch {
            try? removeLeftovers()
            throw error
        }
        try reached(.staged)
    }

    /// Makes what is staged the service; without a staged folder, what stands in its place goes.
    ///
    /// - Throws: ``StackError`` after everything was undone.
    func commit() throws {
        var done: [Move] = []
        do {
            let hasCode = FileSystem.exists(newModule)
            if hasCode {
                try done.append(place(newModule, trees.module(of: name)))
                try reached(.moduleInPlace)
            }
            if FileSystem.exists(newRegistry) {
                try done.append(place(newRegistry, trees.registry(of: name)))
            } else if FileSystem.exists(trees.registry(of: name)) {
                try done.append(take(trees.registry(of: name), newRegistry))
            }
            try reached(.registryInPlace)
            if !hasCode, FileSystem.exists(trees.module(of: name)) {
                try done.append(take(trees.module(of: name), newModule))
                try reached(.moduleAway)
            }
        } catch let error as StackError {
            for move in done.reversed() { try? undo(move) }
            try? removeLeftovers()
            throw error
        }
        try removeLeftovers()
        try reached(.cleaned)
    }

    // MARK: The file system

    private struct Move {
        let from: URL
        let to: URL
        let flags: UInt32
    }

    private func place(_ staged: URL, _ target: URL) throws -> Move {
        let isThere = (try? FileManager.default.attributesOfItem(atPath: target.path)) != nil
        return try move(Move(from: staged, to: target, flags: isThere ? UInt32(DCM_RENAME_EXCHANGE) : UInt32(DCM_RENAME_NOREPLACE)))
    }

    private func take(_ folder: URL, _ hidden: URL) throws -> Move {
        try move(Move(from: folder, to: hidden, flags: UInt32(DCM_RENAME_NOREPLACE)))
    }

    private func move(_ move: Move) throws -> Move {
        var result = renameat2(AT_FDCWD, move.from.path, AT_FDCWD, move.to.path, move.flags)
        if result != 0, errno == EINVAL, move.flags == UInt32(DCM_RENAME_NOREPLACE) {
            // A file system without the flag: a folder is never renamed over one that has something in it.
            result = rename(move.from.path, move.to.path)
        }
        guard result == 0 else {
            if errno == EINVAL {
                throw StackError(
                    .fileSystem,
                    "The file system of \(move.to.path) cannot exchange two folders in one step, so a running stack could see half a service. "
                        + "Stop the stack, remove \(name), and install it again.",
                )
            }
            throw FolderCopy.failure("\(move.to.path) could not be put in its place")
        }
        for folder in Set([move.from, move.to].map { $0.deletingLastPathComponent().path }) { try FolderCopy.sync(folder) }
        return move
    }

    private func undo(_ done: Move) throws {
        _ = try move(Move(from: done.to, to: done.from, flags: done.flags))
    }
}
