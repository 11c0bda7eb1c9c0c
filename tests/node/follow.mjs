// Prints each status of a job until it rests: JOB_SERVICE=… INCLUDE_DIRS=… node follow.mjs ID
import { follow, jobService } from './job-service.mjs';

const { jobs, close } = jobService(process.env.JOB_SERVICE, process.env.INCLUDE_DIRS.split(':'));
for await (const job of follow(jobs, process.argv[2])) console.log(job.status);
close();
